"""Raw bytes to what must be known before anything is decoded: format, size, orientation, and what it would cost.

Bytes come from a request; a ``Header`` goes to admission (pixels) and to ``prepare``. Nothing is decoded and Pillow
is not involved: its own parsers run in ``prepare``, on images that passed here. This module recognises the format
and reads the small ones; ``jpeg`` and ``directories`` read the other two.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from service.errors import BadImage, ImageTooLarge, UnsupportedFormat
from service.preprocess import directories, jpeg
from service.preprocess.facts import TOO_MANY_BLOCKS, TRUNCATED, Header, with_exif
from service.preprocess.limits import DEFAULT_LIMITS, Limits

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_BMP_HEADER_SIZES: Final = frozenset({12, 40, 52, 56, 64, 108, 124})

_WIDTH, _HEIGHT, _COMPRESSION, _STRIPS, _TILES = 256, 257, 259, 273, 324
_TIFF_TAGS: Final = frozenset({_WIDTH, _HEIGHT, _COMPRESSION, _STRIPS, _TILES, directories.ORIENTATION})
_JPEG_IN_TIFF: Final = frozenset({6, 7})
#: libtiff gives up on a strip after this many scans (LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER).
_LIBTIFF_MAX_SCANS: Final = 100


def inspect(data: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Header:
    """Format, stored size and cost of an encoded image, from its header alone: microseconds for a JPEG.

    ``bytes`` are read in place; a memoryview is copied once. Raises UnsupportedFormat if this is no image that the
    service reads, BadImage if its header is damaged, declares no pixels or asks for more work than its pixels are
    worth, ImageTooLarge above ``limits.max_pixels``.
    """
    data = bytes(data)
    header = _reader(data)(data, limits)
    if header.width <= 0 or header.height <= 0:
        raise BadImage("the image has no pixels: its width or height is 0")
    check_pixels(header.width, header.height, limits)
    if header.scans > limits.free_scans and header.scans * header.pixels > limits.max_scan_pixels:
        raise BadImage(f"the JPEG has too many scans for its size: at most {limits.free_scans} are accepted")
    return header


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Raises ImageTooLarge if width × height exceeds ``limits.max_pixels``."""
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image is {width} × {height} pixels ({width * height / 1e6:.1f} megapixels);"
            f" at most {limits.max_pixels / 1e6:g} megapixels are accepted"
        )


def _reader(data: bytes) -> Callable[[bytes, Limits], Header]:
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg.read
    if data.startswith(_PNG_SIGNATURE):
        return _png
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return _tiff
    # "BM" alone also begins plain text, so the size of the second header decides.
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return _bmp
    raise UnsupportedFormat("not a JPEG, PNG, WebP, GIF, BMP or TIFF image (judged by its content)")


def _png(data: bytes, limits: Limits) -> Header:
    if len(data) < 33:
        raise BadImage(TRUNCATED)
    if data[8:16] != b"\0\0\0\rIHDR":
        raise BadImage("the PNG does not begin with its header chunk")
    width, height = struct.unpack_from(">II", data, 16)
    animated, complete, exif = False, False, None
    position, blocks = 8, 0
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        body = position + 8
        if kind == b"IEND":
            complete = True
            break
        if kind == b"acTL":
            animated = int.from_bytes(data[body : body + 4], "big") > 1
        elif kind == b"eXIf":
            exif = data[body : body + length]
        position = body + length + 4
        blocks += 1
        if blocks > limits.max_blocks:
            raise BadImage(TOO_MANY_BLOCKS)
    return with_exif(exif, Header("png", width, height, animated=animated, complete=complete))


def _webp(data: bytes, limits: Limits) -> Header:
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
        raise BadImage("the WebP has no picture header")
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
    return with_exif(exif, Header("webp", width, height, animated=frames > 1, complete=complete))


def _gif(data: bytes, limits: Limits) -> Header:
    if len(data) < 13:
        raise BadImage(TRUNCATED)
    width, height = struct.unpack_from("<HH", data, 6)
    position = 13 + _gif_palette(data[10])
    frames = 0
    budget = limits.max_blocks
    while budget > 0 and position < len(data) and data[position] != 0x3B:
        if data[position] == 0x2C and position + 10 <= len(data):
            frames += 1
            if frames > 1:
                break
            left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
            # Pillow widens the screen to hold its first frame.
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            position += 10 + _gif_palette(data[position + 9]) + 1
        elif data[position] == 0x21:
            position += 2
        else:
            position += 1
            budget -= 1
            continue
        while position < len(data) and budget > 0:
            length = data[position]
            position += 1 + length
            budget -= 1
            if length == 0:
                break
    if budget <= 0:
        raise BadImage(TOO_MANY_BLOCKS)
    return Header("gif", width, height, animated=frames > 1)


def _gif_palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(data: bytes, limits: Limits) -> Header:
    if len(data) < 14 + int.from_bytes(data[14:18], "little"):
        raise BadImage(TRUNCATED)
    if data[14] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Header("bmp", width, height)
    width, height, _, _, compression = struct.unpack_from("<IIHHI", data, 18)
    if height >> 24 == 0xFF:
        height = 2**32 - height  # stored from top to bottom
    if compression in (1, 2) and width * height > limits.max_rle_pixels:
        raise BadImage(
            f"a run-length encoded BMP may have at most {limits.max_rle_pixels / 1e6:g} megapixels; send it as PNG"
        )
    return Header("bmp", width, height)


def _tiff(data: bytes, limits: Limits) -> Header:
    try:
        directory = directories.read_first(data, _TIFF_TAGS)
    except directories.DamagedDirectory:
        raise BadImage("the TIFF has no readable directory") from None
    width, height = directory.value(_WIDTH), directory.value(_HEIGHT)
    if width is None or height is None:
        raise BadImage("the TIFF does not declare its width and height")
    strips = sum(directory.entries[tag].count for tag in (_STRIPS, _TILES) if tag in directory.entries)
    if strips > limits.max_blocks:
        raise BadImage(TOO_MANY_BLOCKS)
    scans = 1
    if directory.value(_COMPRESSION) in _JPEG_IN_TIFF:
        # Strips may share their bytes, so the scans of one strip are not known: the file's total bounds them.
        scans = min(data.count(b"\xff\xda"), _LIBTIFF_MAX_SCANS)
    orientation = directory.value(directories.ORIENTATION) or 1
    return Header(
        "tiff",
        width,
        height,
        orientation=orientation if orientation <= 8 else 1,
        animated=directory.followed,
        scans=scans,
    )
