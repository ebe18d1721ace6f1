"""TIFF: size and cost from the first directory, for ``inspection``.

A TIFF's directory describes how its pixels are divided and compressed, in numbers that may contradict each other, and
Pillow and libtiff rely on different ones: a strip that is listed a thousand times is decoded a thousand times. So the
numbers are checked here, and the decoders get a directory with only the checked tags (``tiff_pixels``): no second page,
EXIF, profile or list of values that Pillow would turn into Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from service.errors import BadImage, ImageTooLarge, UnsupportedFormat
from service.image.formats import tiff_tags as tags
from service.image.formats.jpeg import UNUSUAL, UNUSUAL_FRAME
from service.image.formats.tiff_directory import DamagedDirectory, Directory, read_at, read_first
from service.image.formats.tiff_pixels import JPEG, PIXEL_TAGS, is_tiled, pixel_kind
from service.image.header import CORRUPT, TOO_MANY_BLOCKS, TRUNCATED, Header, Limits

_CAMERA_TAGS: Final = frozenset({tags.NEW_SUBFILE_TYPE, tags.MAKE, tags.SUB_IFDS, tags.DNG_VERSION})
#: Canon's mark between the header and the first directory of a CR2.
_CR2: Final = b"II*\0\x10\0\0\0CR"
#: Photometric interpretations of sensor data: a colour filter array, and linear raw.
_SENSOR: Final = frozenset({32803, 34892})
#: Kodak, Sony, Epson, Samsung (two), Nikon, lossy DNG, Kodak, Pentax.
_RAW_COMPRESSIONS: Final = frozenset({262, 32767, 32769, 32770, 32772, 34713, 34892, 65000, 65535})
_JPEG_OF_1992: Final = 6
_MAX_SUB_IFDS: Final = 8
_CAMERA_RAW: Final = (
    "this is a camera raw file (DNG, NEF, CR2, ARW or alike), which is not supported;"
    " send the JPEG that the camera or a converter makes of it"
)

#: None, CCITT 1D, 3 and 4, LZW, JPEG, Deflate, PackBits, Deflate by its older number. libtiff's other methods have no
#: bound on memory (LZMA, Zstandard, WebP) or are extinct (JPEG of TIFF 6.0, ThunderScan, LogLuv).
_COMPRESSIONS: Final = frozenset({1, 2, 3, 4, 5, JPEG, 8, 32773, 32946})
_SCAN: Final = b"\xff\xda"
#: libtiff rejects a strip with more scans (LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER).
_LIBTIFF_MAX_SCANS: Final = 100
#: The tiles together may have 1.5 times the pixels of the image plus this: a small image may cost as much anyway.
_SPARE_PIXELS: Final = 8_000_000


def inspect_tiff(data: bytes, limits: Limits) -> Header:
    """Size, orientation and cost.

    Raises BadImage if the directory contradicts itself, would cost too much or describes pixels that are not decoded,
    ImageTooLarge if there are too many channels, UnsupportedFormat for a camera raw file, whose first page may be a
    thumbnail.
    """
    try:
        directory = read_first(data, PIXEL_TAGS | _CAMERA_TAGS | {tags.ORIENTATION})
    except DamagedDirectory:
        raise BadImage("the TIFF has no readable directory") from None
    if _is_camera_raw(directory):
        raise UnsupportedFormat(_CAMERA_RAW)
    width, height = directory.value(tags.WIDTH), directory.value(tags.HEIGHT)
    if width is None or height is None:
        raise BadImage("the TIFF does not declare its width and height")
    compression = directory.value(tags.COMPRESSION) if tags.COMPRESSION in directory.entries else 1
    if compression not in _COMPRESSIONS:
        raise BadImage("the TIFF's compression is not supported; send LZW, Deflate, PackBits, JPEG, CCITT or none")
    kind = pixel_kind(directory)
    scans = 1
    if 0 < width * height <= limits.max_pixels:  # others are refused later with a better message
        decoded, part = _decoded_pixels(directory, width, height, limits, kind.samples if kind.planar else 1)
        if not kind.direct and decoded * kind.samples * kind.bits > 64 * limits.max_pixels:  # of RGBA with 16 bits
            raise ImageTooLarge(f"the TIFF has too many channels for its size: {kind.samples} of {kind.bits} bits")
        if compression == JPEG:
            if UNUSUAL_FRAME.search(data) is not None:
                raise BadImage(UNUSUAL)
            decoded = _pixels_of_scans(directory, decoded, part)
        scans = -(-decoded // (width * height))
    orientation = directory.value(tags.ORIENTATION) or 1
    return Header(
        "tiff",
        width,
        height,
        orientation=orientation if orientation <= 8 else 1,
        animated=directory.followed,
        scans=scans,
    )


def _is_camera_raw(directory: Directory) -> bool:
    """Whether the page is, or may be a preview of, a camera's sensor data."""
    if directory.data.startswith(_CR2) or tags.DNG_VERSION in directory.entries:
        return True
    if tags.SUB_IFDS in directory.entries and (directory.value(tags.NEW_SUBFILE_TYPE) or 0) & 1:
        return True  # a thumbnail whose original is not another page
    if directory.value(tags.COMPRESSION) == _JPEG_OF_1992 and not directory.entries.keys().isdisjoint(
        {tags.MAKE, tags.SUB_IFDS}
    ):
        return True
    return any(
        page.value(tags.PHOTOMETRIC) in _SENSOR or page.value(tags.COMPRESSION) in _RAW_COMPRESSIONS
        for page in (directory, *_sub_directories(directory))
    )


def _sub_directories(directory: Directory) -> Iterator[Directory]:
    for offset in directory.values(tags.SUB_IFDS, _MAX_SUB_IFDS):
        with suppress(DamagedDirectory):
            yield read_at(directory.data, offset, frozenset({tags.COMPRESSION, tags.PHOTOMETRIC}))


def _decoded_pixels(directory: Directory, width: int, height: int, limits: Limits, planes: int) -> tuple[int, int]:
    """Pixels of all strips or tiles of one plane, and of each; BadImage unless their number and size fit the image."""
    if is_tiled(directory):
        listed, tile_width, tile_height = (
            tags.TILES,
            directory.value(tags.TILE_WIDTH),
            directory.value(tags.TILE_HEIGHT),
        )
    else:
        rows = directory.value(tags.ROWS_PER_STRIP) if tags.ROWS_PER_STRIP in directory.entries else height
        listed, tile_width, tile_height = tags.STRIPS, width, rows and min(rows, height)
    if not tile_width or not tile_height:
        raise BadImage(CORRUPT)
    across, down = -(-width // tile_width), -(-height // tile_height)
    decoded = width * height if listed == tags.STRIPS else across * tile_width * down * tile_height
    if decoded > width * height * 3 // 2 + _SPARE_PIXELS:
        raise BadImage("the TIFF's tiles are much larger than its image")
    count = directory.count(listed)
    if max(count, across * down * planes) > limits.max_blocks:
        raise BadImage(TOO_MANY_BLOCKS)
    if count > across * down * planes:
        raise BadImage("the TIFF lists more strips or tiles than its image has")
    if count < across * down * planes:
        raise BadImage(TRUNCATED)
    return decoded, tile_width * tile_height


def _pixels_of_scans(directory: Directory, decoded: int, part: int) -> int:
    """An upper bound for the pixels that all scans of the JPEGs in the strips or tiles pass over.

    ``decoded`` pixels are in all of these, ``part`` pixels in each.
    """
    data = directory.data
    listed, sizes = (tags.TILES, tags.TILE_BYTES) if is_tiled(directory) else (tags.STRIPS, tags.STRIP_BYTES)
    count = directory.count(listed)
    starts, lengths = directory.values(listed, count), directory.values(sizes, count)
    if len(lengths) < count or 0 in lengths or sum(lengths) > len(data):
        # libtiff chooses the lengths, or the strips share bytes: each may have as many scans as the file.
        return decoded * min(data.count(_SCAN), _LIBTIFF_MAX_SCANS)
    scans = (data.count(_SCAN, start, start + length) for start, length in zip(starts, lengths, strict=False))
    return part * sum(min(max(1, found), _LIBTIFF_MAX_SCANS) for found in scans)
