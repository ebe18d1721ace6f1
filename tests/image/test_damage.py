"""What libjpeg notices is told: damage is a warning that quotes it or a refusal, and what is intact is neither."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from service.errors import BadImage
from service.image import Findings, Pixels, Transform, inspect, preprocess
from service.image.decode import WARN_DARK, WARN_UNIFORM, Damaged
from service.image.formats.jpeg import WARN_ENDLESS
from tests.hostile.images.jpeg_parts import segment
from tests.image.samples import encode, exif, gradient, noise, seeds

_TRANSFORM = Transform(48, 48)
_END = b"\xff\xd9"
PHOTOS = {
    "baseline": encode(noise(90, 70), "JPEG"),
    "progressive": encode(noise(90, 70), "JPEG", progressive=True),
    "grey": encode(noise(90, 70)[..., 0], "JPEG"),
    "cmyk": encode(Image.fromarray(noise(90, 70, 4), "CMYK"), "JPEG"),
    "turned": encode(noise(90, 70), "JPEG", exif=exif(6)),
    "restarts": encode(noise(90, 70), "JPEG", restart_marker_rows=1),
}


def tried(data: bytes, damaged: Damaged = "warn") -> tuple[Pixels, list[str]]:
    findings = Findings()
    return preprocess(data, inspect(data), _TRANSFORM, damaged=damaged, findings=findings), findings.warnings


def scan(data: bytes) -> int:
    return data.rindex(b"\xff\xda") + 14


def lost(data: bytes) -> bytes:
    first = data.index(b"\xff\xda")
    at = first + (len(data) - first) // 4
    return data[:at] + data[at + 700 :]


def cut_with_an_end(data: bytes) -> bytes:
    return data[: (scan(data) + len(data)) // 2] + _END


def as_text(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("damage", [lost, cut_with_an_end])
def test_damage_is_quoted_or_refused(name: str, damage: Callable[[bytes], bytes]) -> None:
    data = damage(PHOTOS[name])
    _, (warning,) = tried(data)
    assert warning.startswith("the JPEG is damaged: ")
    assert warning.isascii()
    with pytest.raises(BadImage, match="the JPEG is damaged: "):
        tried(data, "refuse")


@pytest.mark.parametrize("seed", range(8))
def test_a_transfer_as_text_is_never_answered_without_a_word(seed: int) -> None:
    data = as_text(encode(gradient(200, 150) // 2 + noise(200, 150, seed=seed) // 2, "JPEG"))
    with contextlib.suppress(BadImage):
        assert tried(data)[1]


@pytest.mark.parametrize("name", PHOTOS)
def test_an_intact_photo_is_not_suspected(name: str) -> None:
    data = PHOTOS[name]
    exact = tried(data)[0]
    others = {
        "bytes between segments": data[:2] + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + b"\0\0\1" + data[2:],
        "fill bytes": data[:2] + b"\xff\xff\xff" + data[2:],
        "another picture behind it": data + data,
        "text behind it": data + b"\n" * 500,
        "an unknown JFIF revision": data[:2] + segment(0xE0, b"JFIF\0\7\1\0\0\1\0\1\0\0") + data[2:],
    }
    for what, other in others.items():
        pixels, warnings = tried(other, "refuse")
        assert warnings == [], what
        np.testing.assert_array_equal(pixels, exact, what)


@pytest.mark.parametrize("name", PHOTOS)
def test_nothing_is_missing_but_the_end_marker(name: str) -> None:
    for ending in (b"", b"\xff"):
        pixels, warnings = tried(PHOTOS[name].removesuffix(_END) + ending, "refuse")
        assert warnings == [WARN_ENDLESS]
        np.testing.assert_array_equal(pixels, tried(PHOTOS[name])[0])


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("damaged", ["warn", "refuse"])
def test_a_scan_that_is_cut_is_refused(name: str, damaged: Damaged) -> None:
    data = PHOTOS[name]
    for at in random.Random(name).sample(range(scan(data), len(data) - 60), 10):
        with pytest.raises(BadImage, match="truncated"):
            tried(data[:at], damaged)


def test_what_only_pillow_decodes_is_decoded() -> None:
    """TurboJPEG knows the usual subsamplings; this one halves a component that the others do not."""
    data = bytearray(encode(gradient(96, 96), "JPEG", subsampling=2, quality=95))
    frame = data.index(b"\xff\xc0")
    data[frame + 11 : frame + 20 : 3] = bytes((0x22, 0x11, 0x11))
    assert tried(bytes(data))[1] == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_one_colour_and_near_black_are_doubted(kind: str) -> None:
    assert tried(encode(Image.new("RGB", (60, 50), (0, 90, 200)), kind))[1] == [WARN_UNIFORM]
    dark = noise(60, 50) // 20
    dark[0, 0] = 0
    assert tried(encode(dark, kind, **({"quality": 100} if kind in ("JPEG", "WEBP") else {})))[1] in ([WARN_DARK], [])


def test_twelve_bits_in_sixteen_and_a_wholly_transparent_picture() -> None:
    twelve_bits = noise(60, 50)[..., 0].astype(np.uint16) * 16
    assert tried(encode(twelve_bits, "PNG"))[1] == [WARN_DARK]
    assert tried(encode(twelve_bits, "TIFF"))[1] == [WARN_DARK]
    for kind in ("PNG", "WEBP", "TIFF"):
        clear = noise(60, 50, 4)
        clear[..., 3] = 0
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        assert tried(encode(clear, kind, **options))[1] == [WARN_UNIFORM], kind


@pytest.mark.parametrize("name", seeds())
def test_ordinary_pictures_have_no_warning(name: str) -> None:
    warnings = tried(seeds()[name])[1]
    assert warnings == ([] if name != "gif" else [WARN_UNIFORM])  # its frames are one colour
