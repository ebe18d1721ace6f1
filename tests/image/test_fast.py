"""``fast``: a JPEG decoded at a reduced DCT scale, never below twice the size it is resized to."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from service.image import Transform, inspect, preprocess
from service.image.transform import resize_and_crop
from tests.image.samples import encode, exif, gradient

TRANSFORM = Transform(64, 56)


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((255, 400), 1),  # half of it would be below 128
        ((256, 400), 2),
        ((400, 511), 2),
        ((512, 700), 4),
        ((1023, 1030), 4),
        ((1024, 1030), 8),
        ((2500, 2600), 8),  # libjpeg has no smaller one
    ],
)
def test_the_scale_keeps_twice_the_target(size: tuple[int, int], scale: int) -> None:
    data = encode(gradient(*size), "JPEG")
    image = Image.open(io.BytesIO(data))
    assert isinstance(image, Image.Image)
    image.draft(None, (size[0] // scale, size[1] // scale))
    expected_side = -(-size[0] // scale), -(-size[1] // scale)
    assert image.size == expected_side
    expected = resize_and_crop(image, TRANSFORM)
    np.testing.assert_array_equal(preprocess(data, inspect(data), TRANSFORM, "fast"), expected)


def test_it_stays_close_to_exact() -> None:
    data = encode(gradient(1600, 1200), "JPEG", quality=90)
    header = inspect(data)
    exact = preprocess(data, header, TRANSFORM, "exact").astype(int)
    fast = preprocess(data, header, TRANSFORM, "fast").astype(int)
    assert abs(exact - fast).max() <= 3  # a smooth picture: what is lost is below its noise


def test_other_formats_are_not_touched() -> None:
    data = encode(gradient(600, 500), "PNG")
    header = inspect(data)
    exact, fast = preprocess(data, header, TRANSFORM), preprocess(data, header, TRANSFORM, "fast")
    np.testing.assert_array_equal(exact, fast)


def test_the_orientation_is_applied_after_scaling() -> None:
    data = encode(gradient(600, 500), "JPEG", exif=exif(6))
    header = inspect(data)
    pixels = preprocess(data, header, TRANSFORM, "fast")
    assert header.warnings == ("EXIF orientation 6 applied",)
    # Turned clockwise, the red gradient, which grew to the right, grows downwards.
    red = pixels[..., 0].astype(int)
    assert red[-1].mean() - red[0].mean() > 150
    assert abs(red[:, -1].mean() - red[:, 0].mean()) < 5
