"""The small copy of a photo: at most 1,024 pixels per side, canonical; the model's pixels are the same without it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.image import Findings, Mode, Pixels, Transform, inspect, preprocess
from tests.image.samples import encode, exif, gradient, stored

TRANSFORM = Transform(256, 224)


def previewed(data: bytes, mode: Mode = "exact") -> tuple[Pixels, Image.Image]:
    findings = Findings(keep_photo=True)
    pixels = preprocess(data, inspect(data), TRANSFORM, mode, findings=findings)
    assert findings.photo.mode == "RGB"
    return pixels, findings.photo


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (1, 1)),
        ((1024, 700), (1024, 700)),
        ((1025, 700), (513, 350)),
        ((900, 3000), (300, 1000)),
        ((1, 5000), (1, 1000)),
        ((100_000, 100), (1021, 2)),
    ],
)
def test_it_is_reduced_by_a_whole_factor(size: tuple[int, int], expected: tuple[int, int]) -> None:
    data = encode(gradient(*size), "PNG")
    pixels, photo = previewed(data)
    assert photo.size == expected
    np.testing.assert_array_equal(pixels, preprocess(data, inspect(data), TRANSFORM))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright_and_opaque(orientation: int) -> None:
    shown = Image.fromarray(gradient(1200, 900)).convert("RGBA")
    shown.paste((0, 0, 0, 0), (0, 0, 400, 300))
    _, photo = previewed(encode(stored(shown, orientation), "PNG", exif=exif(orientation)))
    expected = Image.new("RGB", shown.size, "white")
    expected.paste(shown, mask=shown)
    np.testing.assert_array_equal(np.asarray(photo), np.asarray(expected.reduce(2)))


def test_it_is_of_the_scale_that_was_decoded() -> None:
    data = encode(gradient(4000, 3000), "JPEG")
    assert [previewed(data, mode)[1].size for mode in ("exact", "fast")] == [(1000, 750), (1000, 750)]
    data = encode(gradient(2400, 2100), "JPEG")
    assert [previewed(data, mode)[1].size for mode in ("exact", "fast")] == [(800, 700), (600, 525)]
