"""JPEG markers: size, components, EXIF and number of scans, for ``inspection``, before libjpeg reads the bytes.

``decode`` relies on the result, because Pillow's own parser of markers is not run. Layout: ITU-T T.81, annex B. In a
scan every 0xFF in the data is followed by 0x00 or a restart marker, so the next marker can be found without decoding.
"""

from __future__ import annotations

import re
from typing import Final

from service.errors import BadImage
from service.image.header import CORRUPT, TOO_MANY_BLOCKS, TRUNCATED, Header, Limits

_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_PROGRESSIVE: Final = 0xC2
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
#: Besides frame headers: Huffman tables, arithmetic conditioning, scan, quantisation, lines, restarts, applications,
#: comment. libjpeg refuses all others, and parsers disagree about their length.
_SEGMENTS: Final = frozenset({0xC4, 0xCC, _SOS, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})

#: Without preceding fill bytes: the search would try an unterminated run of them from each of its bytes.
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
#: An unsupported frame header, for JPEG data that cannot be parsed: marker, length, 8 bits per sample.
UNUSUAL_FRAME: Final = re.compile(rb"\xff[\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\x00[\x0b\x0e\x11\x14\x17\x1a]\x08")
#: Arithmetic coding can store any number of coefficients in a bit, so the work is not bounded by the file's size.
UNUSUAL: Final = "arithmetic, lossless and hierarchical JPEG are not supported; send baseline or progressive"


def inspect_jpeg(data: bytes, limits: Limits) -> Header:
    """Size and cost from the segments before the first scan; scans are counted only if there can be many.

    Raises BadImage without a frame before the first scan, or if libjpeg does not decode its kind.
    """
    size: tuple[int, int] | None = None
    components, progressive = 0, False
    exif: bytes | None = None
    position, blocks, end = 2, 0, len(data)
    while True:
        blocks += 1  # fill bytes and stray markers count as well
        if blocks > limits.max_segments:
            raise BadImage(TOO_MANY_BLOCKS)
        position = data.find(b"\xff", position)
        if position < 0 or position + 4 > end:
            raise BadImage(TRUNCATED)
        kind = data[position + 1]
        if kind in (0x00, 0xFF):
            position += 1
            continue
        if kind in _ALONE:
            position += 2
            continue
        length = data[position + 2] << 8 | data[position + 3]
        body = position + 4
        position += 2 + length
        if length < 2 or kind == _EOI:
            raise BadImage("the JPEG has no image data")
        if position > end:
            raise BadImage(TRUNCATED)
        if kind in _SOF:
            if size is not None or length < 8:
                raise BadImage("the JPEG's frame header is damaged")
            if data[body] != 8:
                raise BadImage(f"JPEG with {data[body]} bits per sample is not supported; send 8 bits")
            if kind not in _SEQUENTIAL and kind != _PROGRESSIVE:
                raise BadImage(UNUSUAL)
            size = (data[body + 3] << 8 | data[body + 4], data[body + 1] << 8 | data[body + 2])
            components, progressive = data[body + 5], kind == _PROGRESSIVE
            if components not in (1, 3, 4):
                raise BadImage(f"JPEG with {components} colour components is not supported; send 1, 3 or 4")
        elif kind == _APP1 and exif is None and data.startswith(b"Exif\0\0", body):
            exif = data[body:position]
        elif kind == _SOS:
            if length < 6:
                raise BadImage("the JPEG's scan header is damaged")
            break
        elif kind not in _SEGMENTS:
            raise BadImage(CORRUPT)
    if size is None:
        raise BadImage("the JPEG has no frame header")
    # If the first scan of a sequential JPEG has all components, libjpeg reads no other.
    several = progressive or data[body] < components
    scans = _count_scans(data, position, limits) if several else 1
    return Header("jpeg", *size, exif, components=components, scans=scans)


def _count_scans(data: bytes, position: int, limits: Limits) -> int:
    """The number of scans of this image; the data of the first begins at ``position``."""
    # A fast upper bound; it also counts in data after the image, such as a phone's video.
    bound = 1 + data.count(b"\xff\xda", position)
    if bound <= limits.free_scans:
        return bound
    scans = 1
    for _ in range(limits.max_segments):
        marker = _MARKER.search(data, position)
        if marker is None:
            return scans
        kind, position = data[marker.end() - 1], marker.end()
        if kind == _EOI:
            return scans
        if kind in _ALONE:
            continue
        scans += kind == _SOS
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    raise BadImage(TOO_MANY_BLOCKS)
