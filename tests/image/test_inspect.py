"""``inspect``: what the header says, and what it refuses before anything is decoded."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from PIL import Image

from service.errors import BadImage, ImageTooLarge, UnsupportedFormat
from service.image import Limits, inspect
from service.image.formats.jpeg import inspect_jpeg
from tests.image.samples import encode, exif, gradient, noise, patched

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (37, 21), (300, 2), (2, 300)])
def test_format_and_size(kind: str, size: tuple[int, int]) -> None:
    header = inspect(encode(noise(*size), kind))
    assert (header.format, header.width, header.height) == (kind.lower(), *size)
    assert header.pixels == size[0] * size[1]
    assert header.complete


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": exif(1)}),
        ("TIFF", {"big_tiff": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": exif(1), "icc_profile": b"p" * 200_000, "comment": b"c"}),
        ("PNG", {"exif": exif(1), "icc_profile": b"profile"}),
    ],
)
def test_variants(kind: str, options: dict[str, Any]) -> None:
    header = inspect(encode(noise(37, 21), kind, **options))
    assert (header.format, header.width, header.height) == (kind.lower(), 37, 21)


def test_big_endian_tiff() -> None:
    entries = [(256, 4, 1, 37), (257, 3, 1, 21 << 16), (273, 4, 1, 8), (274, 3, 1, 6 << 16)]
    data = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + b"".join(struct.pack(">HHII", *e) for e in entries)
    header = inspect(data + bytes(4))
    assert (header.width, header.height, header.orientation, header.animated) == (37, 21, 6, False)
    assert inspect(data + b"\0\0\1\0").animated


def test_a_bmp_stored_from_top_to_bottom() -> None:
    header = inspect(patched(encode(noise(4, 3), "BMP"), 22, "<i", -3))
    assert (header.width, header.height) == (4, 3)


@pytest.mark.parametrize(
    "data",
    [
        *(b"\xff", b"\xff\xd8", b"hello", b"BM is how this text begins", b"RIFF\0\0\0\0WAVE", b"%PDF-1.7"),
        *(b"GIF88a", b"II\x2b", b"<svg xmlns='x'/>", b"\0" * 64, b"\0\0\0\x20ftypmp42", b"8BPS\0\1", b"P6 1 1 255 abc"),
    ],
)
def test_what_is_not_an_image_of_ours(data: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        inspect(data)


def test_nothing_is_called_empty() -> None:
    with pytest.raises(BadImage, match="the image is empty"):
        inspect(b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_header(kind: str) -> None:
    data = encode(noise(37, 21), kind)
    cuts = {"JPEG": range(3, data.find(b"\xff\xda")), "TIFF": range(12, 13), "GIF": range(3, 13)}
    for length in cuts.get(kind, range(16, 26)):
        with pytest.raises(BadImage if kind in ("JPEG", "TIFF") else (BadImage, UnsupportedFormat)):
            inspect(data[:length])


def with_size(kind: str, width: int, height: int) -> bytes:
    """A small image whose header claims width × height."""
    data = encode(noise(37, 21), kind)
    if kind == "AVIF":
        return patched(data, data.index(b"ispe") + 8, ">II", width, height)
    if kind != "TIFF":
        at, layout = {
            "PNG": (16, ">II"),
            "GIF": (6, "<HH"),
            "BMP": (18, "<II"),
            "WEBP": (26, "<HH"),
            "JPEG": (data.find(b"\xff\xc0") + 5, ">HH"),
        }[kind]
        return patched(data, at, layout, *((height, width) if kind == "JPEG" else (width, height)))
    for tag, value in ((256, width), (257, height), (278, height)):
        entry = re.search(struct.pack("<HH", tag, 4) + b"\1\0\0\0|" + struct.pack("<HH", tag, 3) + b"\1\0\0\0", data)
        assert entry is not None
        data = patched(data, entry.start(), "<HHII", tag, 4, 1, value)
    return data


@pytest.mark.parametrize("kind", FORMATS)
def test_more_pixels_than_allowed(kind: str) -> None:
    with pytest.raises(ImageTooLarge, match=r"100\.0 megapixels"):
        inspect(with_size(kind, 10_000, 10_000))
    allowed = inspect(with_size(kind, 10_000, 5_000))
    assert allowed.pixels == 50_000_000
    with pytest.raises(ImageTooLarge):
        inspect(with_size(kind, 10_000, 5_000), Limits(max_pixels=49_999_999))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_no_pixels(kind: str, size: tuple[int, int]) -> None:
    if kind == "WEBP" and size == (0, 5):
        size = (0, 0)
    with pytest.raises(BadImage, match="no pixels"):
        inspect(with_size(kind, *size))


def test_a_gif_frame_larger_than_its_screen_counts() -> None:
    data = patched(encode(Image.new("L", (20, 20), 7), "GIF"), 6, "<HH", 1, 1)
    header = inspect(data)
    assert (header.width, header.height) == (20, 20)
    with pytest.raises(ImageTooLarge):
        inspect(patched(data, data.index(b",", 13 + 3) + 5, "<HH", 60_000, 60_000))


def repeated_scans(width: int, height: int, copies: int) -> bytes:
    """A progressive JPEG whose last scan comes ``copies`` more times."""
    data = encode(Image.new("RGB", (width, height), (90, 140, 30)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * copies + data[-2:]


def test_scans_are_counted() -> None:
    assert inspect(encode(noise(64, 48), "JPEG")).scans == 1
    usual = inspect(repeated_scans(64, 48, 0)).scans
    assert 5 < usual <= 16
    assert inspect(repeated_scans(64, 48, 300)).scans == usual + 300


def test_scans_are_bounded_by_the_pixels_they_pass_over() -> None:
    inspect(repeated_scans(400, 300, 500))  # small: as many as it likes
    with pytest.raises(BadImage, match="scans"):
        inspect(repeated_scans(3000, 2000, 500))
    inspect(repeated_scans(3000, 2000, 5))


def test_what_only_looks_like_a_scan_is_not_counted() -> None:
    data = repeated_scans(64, 48, 0)
    scans = inspect(data).scans
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 400) + b"\xff\xda\xff\xd9" * 100
    at = data.rindex(b"\xff\xda")
    limits = Limits(free_scans=1)
    assert inspect_jpeg(data[:at] + comment + data[at:], limits).scans == scans
    assert inspect_jpeg(data + b"\xff\xda" * 500, limits).scans == scans  # a phone's video behind the image


@pytest.mark.parametrize(
    ("kind", "at", "blocks"),
    [
        ("JPEG", 2, b"\xff\xfe\0\2" * 70_000),
        ("PNG", 33, (bytes(4) + b"tEXt" + bytes(4)) * 70_000),
        ("GIF", 13 + 6, b"\x21\xfe" + b"\1a" * 70_000 + b"\0"),
    ],
)
def test_blocks_are_bounded(kind: str, at: int, blocks: bytes) -> None:
    data = encode(Image.new("L", (8, 8)), kind)
    with pytest.raises(BadImage, match="blocks"):
        inspect(data[:at] + blocks + data[at:])


def test_a_thousand_blocks_are_not_too_many() -> None:
    data = encode(noise(8, 8), "JPEG")
    inspect(data[:2] + b"\xff\xfe\0\2" * 1000 + data[2:])


def test_a_large_run_length_encoded_bmp_is_refused() -> None:
    data = patched(encode(Image.new("P", (20, 20)), "BMP"), 18, "<II", 2000, 2000)
    with pytest.raises(BadImage, match="run-length"):
        inspect(patched(data, 30, "<I", 1))


def test_unsupported_jpeg_depth() -> None:
    data = encode(gradient(20, 20), "JPEG")
    with pytest.raises(BadImage, match="12 bits"):
        inspect(patched(data, data.index(b"\xff\xc0") + 4, "B", 12))
