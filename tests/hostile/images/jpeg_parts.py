"""JPEGs from Pillow, and those that it does not write, put together from greyscale ones that it does.

ITU-T T.81, annex B.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from PIL import Image

from tests.hostile.images.pictures import UInt8, plain
from tests.image.samples import encode

SCAN, END = b"\xff\xda", b"\xff\xd9"


class Plane(NamedTuple):
    """One colour component at full size, and its sampling factors."""

    samples: UInt8  # (h, w)
    horizontal: int = 1
    vertical: int = 1


def jpeg(picture: Image.Image | UInt8 | None = None, **options: Any) -> bytes:
    """The clean picture, or another one, as good as its embedding needs it."""
    return encode(plain() if picture is None else picture, "JPEG", **{"quality": 95, **options})


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def last_scan(data: bytes) -> bytes:
    return data[data.rindex(SCAN) : -2]


def baseline(*planes: Plane) -> bytes:
    """A baseline JPEG with a scan for each plane: blocks of a lone component lie as in a greyscale image (A.2.2)."""
    height, width = planes[0].samples.shape
    across, down = max(plane.horizontal for plane in planes), max(plane.vertical for plane in planes)
    frame, scans = struct.pack(">BHHB", 8, height, width, len(planes)), b""
    for number, (samples, horizontal, vertical) in enumerate(planes, 1):
        frame += bytes((number, horizontal << 4 | vertical, 0))
        grey = jpeg(Image.fromarray(samples).reduce((across // horizontal, down // vertical)))
        first, tables, scan = (grey.index(marker) for marker in (b"\xff\xc0", b"\xff\xc4", SCAN))
        scans += segment(0xDA, bytes((1, number, 0, 0, 63, 0))) + grey[scan + 10 : -2]
    return grey[:first] + segment(0xC0, frame) + grey[tables:scan] + scans + END
