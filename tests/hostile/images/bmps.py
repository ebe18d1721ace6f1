"""BMP cases: headers of every age, row orders, depths, bit fields, run lengths, lies and damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tests.hostile.images.case import ANY, BAD, COARSE, OK, OK_OR_BAD, TOO_LARGE, UNSUPPORTED, Case, same
from tests.hostile.images.pictures import grey, in_black_and_white, indexed, palette, plain
from tests.hostile.images.variants import flipped, lies_about_size, overwritten, truncations
from tests.image.samples import encode

_RGB, _RLE8, _RLE4, _BITFIELDS, _JPEG, _PNG = range(6)
#: Where a header of 40 bytes says where the pixels are, how long it is, and how many colours there are.
_PIXELS, _HEADER, _COLOURS = 10, 14, 46


def cases() -> Iterator[Case]:
    data = encode(plain(), "BMP")
    yield same("bmp", data)
    yield same("bmp: grey", encode(grey(), "BMP"), like="grey")
    yield same("bmp: palette", encode(indexed(256), "BMP"), like="256 colours")
    yield same("bmp: 1 bit", encode(in_black_and_white(), "BMP"), like="1 bits")
    top_down = plain()[..., ::-1].tobytes()  # 960 bytes a row need no padding
    yield same("bmp: stored from top to bottom", bmp(24, top_down, height=-240))
    rows = _bottom_up(plain()[..., ::-1])
    os2 = struct.pack("<IHHIIHHHH", 26 + len(rows), 0, 0, 26, 12, 320, 240, 1, 24)
    yield same("bmp: of OS/2", b"BM" + os2 + rows)
    yield from _depths()
    yield from _run_lengths()
    yield from _lies()
    yield from truncations("bmp", data, 54)
    yield from flipped("bmp", data, 24)


def bmp(
    bits: int, rows: bytes, *, width: int = 320, height: int = 240, compression: int = _RGB, table: bytes = b""
) -> bytes:
    """A BMP with a header of 40 bytes; ``rows`` are packed and padded already, ``table`` has masks or a palette."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(rows), 2835, 2835, 0, 0)
    offset = 14 + 40 + len(table)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + table + rows


def _bottom_up(samples: NDArray[np.generic]) -> bytes:
    return samples[::-1].tobytes()


def _fields(bits: int, rows: bytes, *masks: int) -> bytes:
    return bmp(bits, rows, compression=_BITFIELDS, table=struct.pack("<3I", *masks))


def _depths() -> Iterator[Case]:
    red, green, blue = (plain()[..., channel].astype(np.uint16) for channel in range(3))
    five = _bottom_up((red >> 3 << 10 | green >> 3 << 5 | blue >> 3).astype("<u2"))
    yield same("bmp: 16 bits", bmp(16, five), COARSE)
    yield same("bmp: 16 bits, fields 5-5-5", _fields(16, five, 0x7C00, 0x3E0, 0x1F), COARSE)
    six = _bottom_up((red >> 3 << 11 | green >> 2 << 5 | blue >> 3).astype("<u2"))
    yield same("bmp: 16 bits, fields 5-6-5", _fields(16, six, 0xF800, 0x7E0, 0x1F), COARSE)
    four = _bottom_up(np.dstack([plain()[..., ::-1], np.full((240, 320), 255, np.uint8)]))
    yield same("bmp: 32 bits", bmp(32, four))
    yield same("bmp: 32 bits, fields", _fields(32, four, 0xFF0000, 0xFF00, 0xFF))
    yield Case("bmp: fields that overlap", _fields(32, four, 0xFF, 0xFF, 0xFF), OK_OR_BAD)
    yield Case("bmp: fields of odd widths", _fields(32, four, 0x3FF00000, 0xFFC00, 0x3FF), OK_OR_BAD)
    yield Case("bmp: fields of nothing", _fields(32, four, 0, 0, 0), OK_OR_BAD)
    indices, colours = np.asarray(indexed(16)), palette(16)
    entries = b"".join(bytes((*colours[at : at + 3][::-1], 0)) for at in range(0, 48, 3))
    nibbles = _bottom_up(indices[:, ::2] << 4 | indices[:, 1::2])
    yield same("bmp: palette, 4 bits", bmp(4, nibbles, table=entries), like="16 colours")
    yield Case("bmp: 2 bits", bmp(2, nibbles, table=entries), OK_OR_BAD)
    yield Case("bmp: 64 bits", bmp(64, bytes(320 * 240 * 8)))
    many = bmp(8, bytes(320 * 240), table=bytes(4 * 65_536))
    yield Case("bmp: 65,536 colours", overwritten(many, _COLOURS, struct.pack("<I", 65_536)), OK_OR_BAD)
    most = overwritten(bmp(8, bytes(320 * 240)), _COLOURS, b"\xff\xff\xff\xff")
    yield Case("bmp: four thousand million colours", most)


def _run_lengths() -> Iterator[Case]:
    ramp = bytes(channel for value in range(256) for channel in (value, value, value, 0))

    def packed(codes: bytes) -> bytes:
        return bmp(8, codes, compression=_RLE8, table=ramp)

    halves = (b"".join(b"\0\xa0" + row[at : at + 160].tobytes() for at in (0, 160)) for row in grey()[::-1])
    literal = b"".join(half + b"\0\0" for half in halves)
    yield same("bmp: run lengths, 8 bits", packed(literal + b"\0\1"), like="grey")
    runs = b"".join(b"".join(bytes((2, value)) for value in row[::2].tobytes()) + b"\0\0" for row in grey()[::-1])
    yield same("bmp: runs of two", packed(runs + b"\0\1"), like="grey in pairs")
    black = ((b"\0\xa0" + bytes(80)) * 2 + b"\0\0") * 240 + b"\0\1"
    yield Case("bmp: run lengths, 4 bits", bmp(4, black, compression=_RLE4, table=ramp[:64]), OK)
    for name, code in (
        ("runs beyond the row", b"\xff\1"),
        ("ends of rows", b"\0\0"),
        ("jumps to where it is", b"\0\2\0\0"),
        ("runs of length 0", b"\0\3abc\0"),
    ):
        yield Case(f"bmp: 5,000 {name}", packed(code * 5_000), OK_OR_BAD)
        yield Case(f"bmp: a megabyte of {name}", packed(code * (2**20 // len(code))))
    yield Case("bmp: run lengths that end at once", packed(b"\0\1"), OK_OR_BAD)
    large = bmp(8, b"\xff\1" * 100, width=2_000, height=2_000, compression=_RLE8)
    yield Case("bmp: run lengths for 4 megapixels", large, BAD | TOO_LARGE)


def _lies() -> Iterator[Case]:
    rows = _bottom_up(plain()[..., ::-1])
    data = bmp(24, rows)

    def sized(width: int, height: int) -> bytes:
        return bmp(24, rows, width=width, height=height)

    huge, bad = (
        [(65_535, 65_535), (2**31 - 1, 2**31 - 1), (-320, 240), (320, -(2**31))],
        [(0, 0), (0, 240), (320, 0), (640, 480)],
    )
    yield from lies_about_size("bmp", sized, (TOO_LARGE, huge), (BAD, bad), (OK, [(1, 1)]))
    for name, compression in (("JPEG", _JPEG), ("PNG", _PNG), ("no name", 99)):
        yield Case(f"bmp: compression of {name}", bmp(24, rows, compression=compression))
    for name, offset in (("beyond the file", 2**31), ("in its header", 0), ("at its end", len(data))):
        moved = overwritten(encode(plain(), "BMP"), _PIXELS, struct.pack("<I", offset))
        yield Case(f"bmp: pixels {name}", moved, OK_OR_BAD)
    for size, statuses in ((13, UNSUPPORTED), (39, UNSUPPORTED), (2**32 - 1, UNSUPPORTED), (124, ANY), (52, ANY)):
        yield Case(f"bmp: a header of {size} bytes", overwritten(data, _HEADER, struct.pack("<I", size)), statuses)
