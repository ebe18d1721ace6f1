"""JPEGs that Pillow does not write, put together from greyscale ones that it writes. ITU-T T.81, annex B."""

from __future__ import annotations

import struct
from typing import NamedTuple

from PIL import Image

from tests.hostile.images.case import UInt8, encode


class Plane(NamedTuple):
    """One colour component at full size, and its sampling factors."""

    samples: UInt8  # (h, w)
    horizontal: int = 1
    vertical: int = 1


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def baseline(*planes: Plane) -> bytes:
    """A baseline JPEG with a scan for each plane: blocks of a lone component lie as in a greyscale image (A.2.2)."""
    height, width = planes[0].samples.shape
    across, down = max(plane.horizontal for plane in planes), max(plane.vertical for plane in planes)
    frame, scans = struct.pack(">BHHB", 8, height, width, len(planes)), b""
    for number, (samples, horizontal, vertical) in enumerate(planes, 1):
        frame += bytes((number, horizontal << 4 | vertical, 0))
        small = Image.fromarray(samples).reduce((across // horizontal, down // vertical))
        grey = encode(small, "JPEG", quality=95)
        first, tables, scan = (grey.index(marker) for marker in (b"\xff\xc0", b"\xff\xc4", b"\xff\xda"))
        scans += segment(0xDA, bytes((1, number, 0, 0, 63, 0))) + grey[scan + 10 : -2]
    return grey[:first] + segment(0xC0, frame) + grey[tables:scan] + scans + b"\xff\xd9"
