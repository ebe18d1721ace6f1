"""``exact`` is bit-equal to torchvision on the same PIL image. The expected pixels are torchvision's own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torchvision.transforms.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode

from service.image import Transform
from service.image.transform import resize_and_crop
from tests.image import golden
from tests.image.samples import encode, gradient, noise, run

V1 = Transform(256, 224)
V2 = Transform(232, 224)


def torchvision_preset(image: Image.Image, transform: Transform) -> NDArray[Any]:
    mode = InterpolationMode(transform.interpolation)
    resized = F.resize(image, [transform.resize_size], interpolation=mode)
    return np.asarray(F.center_crop(resized, [transform.crop_size]))


@pytest.mark.parametrize("case", golden.CASES)
def test_the_committed_digests_are_torchvisions(case: str) -> None:
    assert golden.digest(case, torchvision_preset) == golden.committed()[case]


@pytest.mark.parametrize("transform", golden.PRESETS, ids=str)
@pytest.mark.parametrize("size", golden.SIZES + golden.THIN, ids=lambda size: f"{size[0]}x{size[1]}")
def test_equals_torchvision(size: tuple[int, int], transform: Transform) -> None:
    image = Image.fromarray(noise(*size))
    np.testing.assert_array_equal(resize_and_crop(image, transform), torchvision_preset(image, transform))


def test_equals_torchvision_at_random_sizes() -> None:
    sizes = np.random.default_rng(7).integers(1, 700, (60, 2)).tolist()
    for width, height in sizes:
        image = Image.fromarray(noise(width, height))
        for transform in (V1, V2, Transform(224, 224), Transform(96, 64)):
            if max(width, height) > 300 * min(width, height):
                continue
            expected = torchvision_preset(image, transform)
            assert np.array_equal(resize_and_crop(image, transform), expected), (width, height, transform)


@pytest.mark.parametrize("size", golden.SMALL)
@pytest.mark.parametrize("transform", golden.PADDED, ids=str)
def test_a_crop_larger_than_the_image_is_padded_as_torchvision_pads(
    size: tuple[int, int], transform: Transform
) -> None:
    image = Image.fromarray(noise(*size))
    np.testing.assert_array_equal(resize_and_crop(image, transform), torchvision_preset(image, transform))


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000)])
def test_a_large_photo_through_the_whole_pipeline(size: tuple[int, int]) -> None:
    data = encode(gradient(*size), "JPEG", quality=85)
    decoded = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(run(data, V1).image, torchvision_preset(decoded, V1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_every_format_through_the_whole_pipeline(kind: str) -> None:
    data = encode(gradient(301, 225), kind)
    result = run(data, V2)
    np.testing.assert_array_equal(result.image, torchvision_preset(Image.open(io.BytesIO(data)), V2))
    assert result.format == kind.lower()
    assert result.warnings == ()
