"""``exact`` is bit-equal to torchvision on the same PIL image. The expected pixels are torchvision's own."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torchvision.transforms.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode

from service.image import Transform, inspect, preprocess
from service.image.transform import crop_box, resize_and_crop
from tests.image.samples import encode, gradient, noise, run

V1 = Transform(256, 224)
V2 = Transform(232, 224)

SIZES = [
    (1, 1), (1, 2), (2, 1), (2, 2), (3, 5), (7, 4), (31, 32), (57, 44),
    (223, 223), (224, 224), (225, 225), (224, 225), (225, 224), (256, 256), (255, 257), (232, 300), (300, 232),
    (500, 375), (375, 500), (333, 500), (500, 334), (640, 427), (427, 640), (301, 225), (300, 225), (225, 300),
    (999, 1000), (1300, 900), (257, 513), (513, 257), (512, 1025), (350, 701),
]  # fmt: skip

#: Thin enough for the numpy pass, and for torchvision's intermediate image to fit a test.
THIN = [
    (1, 4), (4, 1), (1, 300), (300, 1), (3, 700), (700, 3), (2, 9), (64, 256), (256, 64),
    (57, 400), (400, 57), (260, 1400), (1400, 260), (300, 2999), (2999, 300), (225, 1000), (1000, 225),
]  # fmt: skip


def torchvision_preset(image: Image.Image, transform: Transform) -> NDArray[Any]:
    mode = InterpolationMode(transform.interpolation)
    resized = F.resize(image, [transform.resize_size], interpolation=mode)
    return np.asarray(F.center_crop(resized, [transform.crop_size]))


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


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize_size", [256, 232])
@pytest.mark.parametrize("size", SIZES + THIN, ids=lambda size: f"{size[0]}x{size[1]}")
def test_equals_torchvision(size: tuple[int, int], resize_size: int, interpolation: Any) -> None:
    image = Image.fromarray(noise(*size))
    transform = Transform(resize_size, 224, interpolation)
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


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (33, 400), (400, 33), (30, 60), (1, 9)])
@pytest.mark.parametrize("crop", [35, 36, 50, 61, 300])
def test_a_crop_larger_than_the_image_is_padded_as_torchvision_pads(size: tuple[int, int], crop: int) -> None:
    image = Image.fromarray(noise(*size))
    transform = Transform(35, crop)
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
