"""``exact`` is bit-equal to torchvision on the same PIL image, by digests of torchvision's own pixels."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.image import Transform, inspect, preprocess
from service.image.transform import crop_box, resize_and_crop
from tests.image import golden
from tests.image.samples import encode, gradient, noise, run

V1 = Transform(256, 224)
V2 = Transform(232, 224)


@pytest.mark.parametrize("transform", [V1, V2, Transform(100, 96, "bicubic")])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (640, 427), (1300, 900), (350, 701), (224, 224), (999, 1000)])
def test_the_crop_box_is_what_the_square_shows(size: tuple[int, int], transform: Transform) -> None:
    """A ramp along each axis tells from which place of the photo each pixel of the square comes."""
    width, height = size
    box = crop_box(size, transform)
    assert box.x >= 0
    assert box.x + box.width <= width
    assert box.y >= 0
    assert box.y + box.height <= height
    ramps = np.zeros((height, width, 3), np.uint8)
    ramps[..., 0] = np.rint(np.linspace(0, 255, width))
    ramps[..., 1] = np.rint(np.linspace(0, 255, height))[:, np.newaxis]
    square = resize_and_crop(Image.fromarray(ramps), transform).astype(np.float64)
    places = np.arange(transform.crop_size) + 0.5
    inner = slice(2, -2)  # at the photo's own edges the filter sees one side only
    for channel, start, extent, length in ((0, box.x, box.width, width), (1, box.y, box.height, height)):
        expected = (start + places / transform.crop_size * extent - 0.5) / (length - 1) * 255
        actual = square.mean(axis=channel)[:, channel]
        assert np.abs(actual - expected)[inner].max() < 1.2


@pytest.mark.parametrize("case", golden.CASES)
def test_equals_the_digests_of_torchvisions_squares(case: str) -> None:
    """``test_torchvision.py`` makes the same digests of torchvision's pixels."""
    assert golden.digest(case, resize_and_crop) == golden.committed()[case]


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000)])
def test_a_large_photo_through_the_whole_pipeline(size: tuple[int, int]) -> None:
    data = encode(gradient(*size), "JPEG", quality=85)
    np.testing.assert_array_equal(run(data, V1).image, resize_and_crop(Image.open(io.BytesIO(data)), V1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_every_format_through_the_whole_pipeline(kind: str) -> None:
    data = encode(gradient(301, 225), kind)
    result = run(data, V2)
    np.testing.assert_array_equal(result.image, resize_and_crop(Image.open(io.BytesIO(data)), V2))
    assert result.format == kind.lower()
    assert result.warnings == ()


def test_the_array_is_what_the_boundary_promises() -> None:
    for size in ((500, 375), (375, 500), (1, 900), (900, 1), (12, 7)):
        image = resize_and_crop(Image.fromarray(noise(*size)), Transform(64, 56))
        assert image.shape == (56, 56, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert not image.flags.writeable


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (5000, 1), (1, 5000)])
def test_a_thin_image_costs_what_its_crop_costs(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The full intermediate image would be 256 × 15,360,000 pixels. Pillow's memory is counted by what it makes."""
    made: list[int] = []
    resize = Image.Image.resize

    def counting(image: Image.Image, target: tuple[int, int], *rest: Any) -> Image.Image:
        made.append(target[0] * target[1])
        assert made[-1] < 500_000
        return resize(image, target, *rest)

    data = encode(noise(*size), "PNG")
    header = inspect(data)
    run(encode(noise(8, 8), "PNG"), V1)  # imports and caches
    monkeypatch.setattr(Image.Image, "resize", counting)
    tracemalloc.start()
    image = preprocess(data, header, V1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000  # bytes; numpy's part
    assert made
    assert image.shape == (224, 224, 3)


def test_a_thin_image_is_cropped_from_its_middle() -> None:
    """Where torchvision's intermediate does not fit: one pixel high, each source pixel becomes 256 equal ones."""
    pixels = noise(60_000, 1)
    image = resize_and_crop(Image.fromarray(pixels), Transform(256, 224, "bilinear"))
    # Output column x lies at (offset + x + 0.5) / 256 - 0.5 in the source, between two pixel centres.
    position = (60_000 * 256 - 224) // 2 + np.arange(224)
    centre = (position + 0.5) / 256 - 0.5
    left = np.floor(centre).astype(int)
    share = (centre - left)[:, None]
    expected = pixels[0, left] * (1 - share) + pixels[0, left + 1] * share
    np.testing.assert_allclose(image[100], expected, atol=0.51)  # rounding to uint8
    assert (image == image[:1]).all()
