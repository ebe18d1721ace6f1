"""JPEG markers: size, EXIF and number of scans, read for ``headers`` before libjpeg sees the bytes.

Layout: ITU-T T.81, annex B. Inside a scan every 0xFF of the data is followed by 0x00 or a restart marker, so the
next marker is found without decoding.
"""

from __future__ import annotations

import re
from typing import Final

from service.errors import BadImage
from service.preprocess.facts import TOO_MANY_BLOCKS, TRUNCATED, Header, with_exif
from service.preprocess.limits import Limits

_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1

_MARKER: Final = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)


def read(data: bytes, limits: Limits) -> Header:
    """Size and cost from the segments before the first scan; scans are counted only where there can be many.

    Raises BadImage if no frame comes before the first scan, or one that libjpeg does not decode.
    """
    size: tuple[int, int] | None = None
    components, progressive = 0, False
    exif: bytes | None = None
    position, blocks, end = 2, 0, len(data)
    while True:
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
            raise BadImage("the JPEG has no picture data")
        if position > end:
            raise BadImage(TRUNCATED)
        if kind in _SOF:
            if size is not None or length < 8:
                raise BadImage("the JPEG's frame header is damaged")
            if data[body] != 8:
                raise BadImage(f"JPEG with {data[body]} bits a sample is not supported; send 8 bits")
            size = (data[body + 3] << 8 | data[body + 4], data[body + 1] << 8 | data[body + 2])
            components, progressive = data[body + 5], kind in _PROGRESSIVE
        elif kind == _APP1 and exif is None and data.startswith(b"Exif\0\0", body):
            exif = data[body:position]
        elif kind == _SOS:
            if length < 6:
                raise BadImage("the JPEG's scan header is damaged")
            break
        blocks += 1
        if blocks > limits.max_blocks:
            raise BadImage(TOO_MANY_BLOCKS)
    if size is None:
        raise BadImage("the JPEG has no frame header")
    # A scan that carries every component of a sequential JPEG is the only one that libjpeg reads.
    several = progressive or data[body] < components
    scans = _count_scans(data, position, limits) if several else 1
    return with_exif(exif, Header("jpeg", *size, scans=scans))


def _count_scans(data: bytes, position: int, limits: Limits) -> int:
    """Scans from the first one, whose data begins at ``position``, to the end of this picture."""
    # An upper bound at the speed of memchr; it also counts what follows the picture, such as a phone's video.
    bound = 1 + data.count(b"\xff\xda", position)
    if bound <= limits.free_scans:
        return bound
    scans = 1
    while (found := _MARKER.search(data, position)) is not None:
        kind, position = data[found.end() - 1], found.end()
        if kind == _EOI:
            break
        if kind in _ALONE:
            continue
        scans += kind == _SOS
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return scans


def without_metadata(data: bytes) -> bytes:
    """The same picture without the application segments and comments that only Pillow's Python code reads.

    ``data`` is one that ``read`` accepts. JFIF (APP0) and Adobe (APP14) say how colours are stored and stay, where
    they are long enough to be valid.
    """
    kept = [data[:2]]
    position = 2
    while True:
        position = data.index(b"\xff", position)
        kind = data[position + 1]
        if kind in (0x00, 0xFF):
            position += 1
            continue
        if kind in _ALONE:
            position += 2
            continue
        if kind == _SOS:
            return b"".join((*kept, data[position:]))
        end = position + 2 + (data[position + 2] << 8 | data[position + 3])
        colour = {0xE0: 16, 0xEE: 14}.get(kind)
        if end - position >= colour if colour is not None else not (0xE0 <= kind <= 0xEF or kind == 0xFE):
            kept.append(data[position:end])
        position = end
