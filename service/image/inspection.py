"""Reads from encoded bytes what must be known before decoding: format, size, orientation and cost.

The bytes come from a request; the ``Header`` goes to admission (pixels) and to ``preprocess``. Nothing is decoded.
Pillow's own parsers see only images that passed here. This module recognises the format and reads WebP and BMP;
``formats`` reads the others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from service.errors import BadImage, UnsupportedFormat
from service.image.formats.bmff import inspect_bmff, is_bmff_image
from service.image.formats.foreign import describe_foreign
from service.image.formats.gif import inspect_gif
from service.image.formats.jpeg import inspect_jpeg
from service.image.formats.png import SIGNATURE, inspect_png
from service.image.formats.tiff import inspect_tiff
from service.image.formats.tiff_directory import with_orientation
from service.image.header import DEFAULT_LIMITS, TOO_MANY_BLOCKS, TRUNCATED, Header, Limits

_BMP_HEADER_SIZES: Final = frozenset({12, 40, 52, 56, 64, 108, 124})
_BMP_RLE: Final = frozenset({1, 2})


def inspect(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Header:
    """Format, stored size and cost of an encoded image, from its header. Takes microseconds for a JPEG.

    Raises UnsupportedFormat for an unknown format, BadImage if the header is damaged, declares no pixels or would cost
    too much work for its pixels, ImageTooLarge if it exceeds ``limits``.
    """
    if not data:
        raise BadImage("the image is empty")
    header = _reader(data)(data, limits)
    if header.width <= 0 or header.height <= 0:
        raise BadImage("the image has no pixels: its width or height is 0")
    limits.check_size(header.width, header.height)
    if header.scans > limits.free_scans and header.scans * header.pixels > limits.max_scan_pixels:
        name = "JPEG" if header.format == "jpeg" else "JPEG data inside the TIFF"
        raise BadImage(f"the {name} has too many scans for its size: at most {limits.free_scans} are accepted")
    return header if header.exif is None else with_orientation(header, header.exif)


def is_image(head: bytes) -> bool:
    """Whether data that begins with ``head``, of 1 KiB, is in a format that ``inspect`` reads."""
    try:
        _reader(head)
    except UnsupportedFormat:
        return False
    return True


def _reader(data: bytes) -> Callable[[bytes, Limits], Header]:
    if data.startswith(b"\xff\xd8\xff"):
        return inspect_jpeg
    if data.startswith(SIGNATURE):
        return inspect_png
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _inspect_webp
    if data.startswith((b"GIF87a", b"GIF89a")):
        return inspect_gif
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0")):  # Pillow has no big-endian BigTIFF
        return inspect_tiff
    # "BM" alone also begins plain text, so the size of the second header decides.
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return _inspect_bmp
    if is_bmff_image(data):
        return inspect_bmff
    raise UnsupportedFormat(describe_foreign(data))


def _inspect_webp(data: bytes, limits: Limits) -> Header:
    if len(data) < 30:
        raise BadImage(TRUNCATED)
    first = data[12:16]
    if first == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif first == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif first == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise BadImage("the WebP has no image header")
    frames, exif = 0, None
    position, blocks = 12, 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        kind = data[position : position + 4]
        if kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            exif = data[position + 8 : position + 8 + length]
        position += 8 + length + (length & 1)
        blocks += 1
        if blocks > limits.max_blocks:
            raise BadImage(TOO_MANY_BLOCKS)
    complete = 8 + int.from_bytes(data[4:8], "little") <= len(data)
    return Header("webp", width, height, exif, animated=frames > 1, complete=complete)


def _inspect_bmp(data: bytes, limits: Limits) -> Header:
    if len(data) < 14 + int.from_bytes(data[14:18], "little"):
        raise BadImage(TRUNCATED)
    if data[14] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Header("bmp", width, height)
    width, height, _, _, compression = struct.unpack_from("<IIHHI", data, 18)
    if height >> 24 == 0xFF:
        height = 2**32 - height  # negative: rows are stored from top to bottom
    if compression in _BMP_RLE:
        _check_run_lengths(width * height, len(data), limits)
    return Header("bmp", width, height)


def _check_run_lengths(pixels: int, size: int, limits: Limits) -> None:
    """Raise BadImage if expanding them, which Pillow does in Python, would take too long."""
    if pixels > limits.max_rle_pixels:
        raise BadImage(
            f"a run-length encoded BMP may have at most {limits.max_rle_pixels / 1e6:g} megapixels; send it as PNG"
        )
    # The longest sensible encoding takes two bytes per pixel and two per row. But codes may also encode nothing.
    if size > 4 * pixels + 2048:
        raise BadImage("the BMP's run-length encoded data is longer than its pixels can need")
