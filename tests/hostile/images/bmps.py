"""BMP cases: headers of every age, row orders, depths, bit fields, run lengths, lies and damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.hostile.images.case import (
    ANY,
    BAD,
    COARSE,
    OK,
    OK_OR_BAD,
    TOO_LARGE,
    UNSUPPORTED,
    Case,
    encode,
    flipped,
    grey,
    indexed,
    lies_about_size,
    plain,
    same,
    truncations,
)

_RGB, _RLE8, _RLE4, _BITFIELDS, _JPEG, _PNG = range(6)


def cases() -> Iterator[Case]:
    yield same("bmp", encode(plain(), "BMP"))
    yield same("bmp: grey", encode(grey(), "BMP"), like="grey")
    yield same("bmp: palette", encode(indexed(256), "BMP"), like="256 colours")
    yield same("bmp: 1 bit", encode(Image.fromarray(grey() > 127), "BMP"), like="1 bits")
    yield same("bmp: stored from top to bottom", bmp(24, _top_down(plain()[..., ::-1]), height=-240))
    yield same("bmp: of OS/2", _os2())
    yield from _depths()
    yield from _run_lengths()
    yield from _lies()
    data = encode(plain(), "BMP")
    yield from truncations("bmp", data, 54)
    yield from flipped("bmp", data, 24)


def bmp(
    bits: int,
    rows: bytes,
    *,
    width: int = 320,
    height: int = 240,
    compression: int = _RGB,
    masks: tuple[int, ...] = (),
    palette: bytes = b"",
    colours: int = 0,
) -> bytes:
    """A BMP with a header of 40 bytes; ``rows`` are packed and padded already."""
    after = b"".join(struct.pack("<I", mask) for mask in masks) + palette
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(rows), 2835, 2835, colours, 0)
    offset = 14 + 40 + len(after)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + after + rows


def _top_down(samples: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return samples.tobytes()  # 960 bytes a row need no padding


def _bottom_up(samples: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bytes:
    return samples[::-1].tobytes()


def _os2() -> bytes:
    rows = _bottom_up(plain()[..., ::-1])
    return b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + struct.pack("<IHHHH", 12, 320, 240, 1, 24) + rows


def _depths() -> Iterator[Case]:
    red, green, blue = (plain()[..., channel].astype(np.uint16) for channel in range(3))
    five = _bottom_up((red >> 3 << 10 | green >> 3 << 5 | blue >> 3).astype("<u2"))
    yield same("bmp: 16 bits", bmp(16, five), COARSE)
    yield same("bmp: 16 bits, fields 5-5-5", bmp(16, five, compression=_BITFIELDS, masks=(0x7C00, 0x3E0, 0x1F)), COARSE)
    six = _bottom_up((red >> 3 << 11 | green >> 2 << 5 | blue >> 3).astype("<u2"))
    yield same("bmp: 16 bits, fields 5-6-5", bmp(16, six, compression=_BITFIELDS, masks=(0xF800, 0x7E0, 0x1F)), COARSE)
    four = np.dstack([plain()[..., ::-1], np.full((240, 320), 255, np.uint8)])
    yield same("bmp: 32 bits", bmp(32, _bottom_up(four)))
    masks = (0xFF0000, 0xFF00, 0xFF)
    yield same("bmp: 32 bits, fields", bmp(32, _bottom_up(four), compression=_BITFIELDS, masks=masks))
    for name, wrong in (("that overlap", (0xFF, 0xFF, 0xFF)), ("of odd widths", (0x3FF00000, 0xFFC00, 0x3FF))):
        yield Case(f"bmp: fields {name}", bmp(32, _bottom_up(four), compression=_BITFIELDS, masks=wrong), OK_OR_BAD)
    yield Case("bmp: fields of nothing", bmp(32, _bottom_up(four), compression=_BITFIELDS, masks=(0, 0, 0)), OK_OR_BAD)
    indices = np.asarray(indexed(16))
    palette = indexed(16).getpalette()
    assert palette is not None
    entries = b"".join(bytes((*palette[at : at + 3][::-1], 0)) for at in range(0, 48, 3))
    nibbles = _bottom_up(indices[:, ::2] << 4 | indices[:, 1::2])
    yield same("bmp: palette, 4 bits", bmp(4, nibbles, palette=entries), like="16 colours")
    yield Case("bmp: 2 bits", bmp(2, nibbles, palette=entries), OK_OR_BAD)
    yield Case("bmp: 64 bits", bmp(64, bytes(320 * 240 * 8)))
    yield Case("bmp: 65,536 colours", bmp(8, bytes(320 * 240), palette=bytes(4 * 65_536), colours=65_536), OK_OR_BAD)
    yield Case("bmp: four thousand million colours", bmp(8, bytes(320 * 240), colours=2**32 - 1))


def _run_lengths() -> Iterator[Case]:
    ramp = bytes(channel for value in range(256) for channel in (value, value, value, 0))
    literal = b"".join(
        b"".join(b"\0\xa0" + row[at : at + 160].tobytes() for at in (0, 160)) + b"\0\0" for row in grey()[::-1]
    )
    data = bmp(8, literal + b"\0\1", compression=_RLE8, palette=ramp)
    yield same("bmp: run lengths, 8 bits", data, like="grey")
    runs = b"".join(b"".join(bytes((2, value)) for value in row[::2].tobytes()) + b"\0\0" for row in grey()[::-1])
    yield same("bmp: runs of two", bmp(8, runs + b"\0\1", compression=_RLE8, palette=ramp), like="grey in pairs")
    packed = b"".join(b"\0\xa0" + bytes(80) + b"\0\xa0" + bytes(80) + b"\0\0" for _ in range(240))
    yield Case("bmp: run lengths, 4 bits", bmp(4, packed + b"\0\1", compression=_RLE4, palette=ramp[:64]), OK)
    for name, code in (
        ("runs beyond the row", b"\xff\1"),
        ("ends of rows", b"\0\0"),
        ("jumps to where it is", b"\0\2\0\0"),
        ("runs of length 0", b"\0\3abc\0"),
    ):
        few = bmp(8, code * 5_000, compression=_RLE8, palette=ramp)
        yield Case(f"bmp: 5,000 {name}", few, OK_OR_BAD)
        yield Case(f"bmp: a megabyte of {name}", bmp(8, code * (2**20 // len(code)), compression=_RLE8, palette=ramp))
    yield Case("bmp: run lengths that end at once", bmp(8, b"\0\1", compression=_RLE8, palette=ramp), OK_OR_BAD)
    large = bmp(8, b"\xff\1" * 100, width=2_000, height=2_000, compression=_RLE8)
    yield Case("bmp: run lengths for 4 megapixels", large, BAD | TOO_LARGE)


def _lies() -> Iterator[Case]:
    rows = _bottom_up(plain()[..., ::-1])

    def sized(width: int, height: int) -> bytes:
        return bmp(24, rows, width=width, height=height)

    huge, bad = (
        [(65_535, 65_535), (2**31 - 1, 2**31 - 1), (-320, 240), (320, -(2**31))],
        [(0, 0), (0, 240), (320, 0), (640, 480)],
    )
    yield from lies_about_size("bmp", sized, (TOO_LARGE, huge), (BAD, bad), (OK, [(1, 1)]))
    for name, compression in (("JPEG", _JPEG), ("PNG", _PNG), ("no name", 99)):
        yield Case(f"bmp: compression of {name}", bmp(24, rows, compression=compression))
    for name, offset in (("beyond the file", 2**31), ("in its header", 0), ("at its end", len(rows) + 54)):
        data = encode(plain(), "BMP")
        yield Case(f"bmp: pixels {name}", data[:10] + struct.pack("<I", offset) + data[14:], OK_OR_BAD)
    for size, statuses in ((13, UNSUPPORTED), (39, UNSUPPORTED), (2**32 - 1, UNSUPPORTED), (124, ANY), (52, ANY)):
        data = bmp(24, rows)
        yield Case(f"bmp: a header of {size} bytes", data[:14] + struct.pack("<I", size) + data[18:], statuses)
