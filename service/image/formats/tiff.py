"""TIFF: size and cost from the first directory, for ``inspection``; for ``decode``, the file reduced to that page.

A TIFF's directory describes how its pixels are divided and compressed, in numbers that may contradict each other, and
Pillow and libtiff rely on different ones: a strip that is listed a thousand times is decoded a thousand times. So the
numbers are checked here, and the decoders get a directory with only the checked tags: no second page, EXIF, profile or
list of values that Pillow would turn into Python objects. Tags: TIFF 6.0 and its supplements 1 and 2.
"""

from __future__ import annotations

from typing import Final

from service.errors import BadImage
from service.image.formats.jpeg import UNUSUAL, UNUSUAL_FRAME
from service.image.formats.tiff_directory import (
    ORIENTATION,
    DamagedDirectory,
    Directory,
    DirectoryEntry,
    read_first,
    with_entries,
)
from service.image.header import CORRUPT, TOO_MANY_BLOCKS, TRUNCATED, Header, Limits

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_T4, _T6, _PREDICTOR, _COLOUR_MAP = 292, 293, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES = 332, 338, 339, 347
_YCBCR: Final = frozenset({529, 530, 531, 532})  # coefficients, subsampling, positioning, reference black and white

_STRIPED: Final = frozenset({_STRIPS, _ROWS_PER_STRIP, _STRIP_BYTES})
_TILED: Final = frozenset({_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES})
_COMMON: Final = _YCBCR | {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _PLANAR, _T4, _T6),
    *(_PREDICTOR, _COLOUR_MAP, _INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES),
}
#: Tags with one value per strip or tile. Of the others, the longest in use is a palette of 768 values.
_LISTS: Final = frozenset({_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES})
_MAX_VALUES: Final = 4096

_JPEG: Final = 7
#: None, CCITT 1D, 3 and 4, LZW, JPEG, Deflate, PackBits, Deflate by its older number. libtiff's other methods have no
#: bound on memory (LZMA, Zstandard, WebP) or are extinct (JPEG of TIFF 6.0, ThunderScan, LogLuv).
_COMPRESSIONS: Final = frozenset({1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946})
#: libtiff rejects a strip with more scans (LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER).
_LIBTIFF_MAX_SCANS: Final = 100
#: The tiles together may have 1.5 times the pixels of the image plus this: a small image may cost as much anyway.
_SPARE_PIXELS: Final = 8_000_000


def inspect_tiff(data: bytes, limits: Limits) -> Header:
    """Size, orientation and cost. Raises BadImage if the directory contradicts itself or would cost too much."""
    try:
        directory = read_first(data, _COMMON | _STRIPED | _TILED | {ORIENTATION})
    except DamagedDirectory:
        raise BadImage("the TIFF has no readable directory") from None
    width, height = directory.value(_WIDTH), directory.value(_HEIGHT)
    if width is None or height is None:
        raise BadImage("the TIFF does not declare its width and height")
    compression = directory.value(_COMPRESSION) if _COMPRESSION in directory.entries else 1
    if compression not in _COMPRESSIONS:
        raise BadImage("the TIFF's compression is not supported; send LZW, Deflate, PackBits, JPEG, CCITT or none")
    scans = 1
    if 0 < width * height <= limits.max_pixels:  # others are refused later with a better message
        # Passes over the image. Strips may share bytes, so each may have as many scans as the file.
        scans = -(-_decoded_pixels(directory, width, height, limits) // (width * height))
        if compression == _JPEG:
            if UNUSUAL_FRAME.search(data) is not None:
                raise BadImage(UNUSUAL)
            scans *= min(data.count(b"\xff\xda"), _LIBTIFF_MAX_SCANS)
    orientation = directory.value(ORIENTATION) or 1
    return Header(
        "tiff",
        width,
        height,
        orientation=orientation if orientation <= 8 else 1,
        animated=directory.followed,
        scans=scans,
    )


def first_page(data: bytes) -> bytes:
    """The first page, with only the tags that affect pixels. ``inspect_tiff`` must have accepted ``data``."""
    directory = read_first(data, _COMMON | _STRIPED | _TILED)
    omitted = _STRIPED if _is_tiled(directory) else _TILED
    entries = {tag: entry for tag, entry in directory.entries.items() if _is_kept(tag, entry, omitted)}
    return with_entries(data, entries)


def _is_kept(tag: int, entry: DirectoryEntry, omitted: frozenset[int]) -> bool:
    return tag not in omitted and (tag in _LISTS or entry.count <= _MAX_VALUES)


def _is_tiled(directory: Directory) -> bool:
    return not directory.entries.keys().isdisjoint({_TILE_WIDTH, _TILE_HEIGHT})


def _decoded_pixels(directory: Directory, width: int, height: int, limits: Limits) -> int:
    """Pixels of all strips or tiles of one plane; BadImage unless their number and size fit the image."""
    if _is_tiled(directory):
        listed, tile_width, tile_height = _TILES, directory.value(_TILE_WIDTH), directory.value(_TILE_HEIGHT)
    else:
        rows = directory.value(_ROWS_PER_STRIP) if _ROWS_PER_STRIP in directory.entries else height
        listed, tile_width, tile_height = _STRIPS, width, rows and min(rows, height)
    if not tile_width or not tile_height:
        raise BadImage(CORRUPT)
    across, down = -(-width // tile_width), -(-height // tile_height)
    decoded = width * height if listed == _STRIPS else across * tile_width * down * tile_height
    if decoded > width * height * 3 // 2 + _SPARE_PIXELS:
        raise BadImage("the TIFF's tiles are much larger than its image")
    planes = 1
    if directory.value(_PLANAR) == 2:
        planes = max(1, directory.value(_SAMPLES) or 0, directory.count(_BITS))
    count = directory.count(listed)
    if max(count, across * down * planes) > limits.max_blocks:
        raise BadImage(TOO_MANY_BLOCKS)
    if count > across * down * planes:
        raise BadImage("the TIFF lists more strips or tiles than its image has")
    if count < across * down:
        raise BadImage(TRUNCATED)
    return decoded
