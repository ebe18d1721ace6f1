"""TIFF files tag by tag, in either byte order, classic or BigTIFF, with as many directories and lies as wanted.

TIFF 6.0, section 2; BigTIFF differs in its magic number and in eight-byte counts and offsets.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SIGNED_LONG, FLOAT, LONG8 = 1, 2, 3, 4, 5, 7, 9, 11, 16
_CODES = {
    **{BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "II", UNDEFINED: "B"},
    **{SIGNED_LONG: "i", FLOAT: "f", LONG8: "Q"},
}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIPS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, X_RESOLUTION, PLANAR, PREDICTOR = 273, 277, 278, 279, 282, 284, 317
COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT = 320, 322, 323, 324, 325, 338, 339
SUBSAMPLING, XMP, EXIF_IFD = 530, 700, 34665

NONE, LZW, JPEG, DEFLATE, PACKBITS, LZMA, ZSTD, WEBP = 1, 5, 7, 8, 32773, 34925, 50000, 50001


@dataclass(frozen=True)
class Tag:
    """``count`` and ``raw`` lie about ``values``: how many there are said to be, and what their field holds."""

    tag: int
    kind: int
    values: Sequence[int] | Sequence[float] | bytes | memoryview[int]
    count: int | None = None
    raw: int | None = None


def shorts(tag: int, *values: int) -> Tag:
    return Tag(tag, SHORT, values)


def longs(tag: int, *values: int) -> Tag:
    return Tag(tag, LONG, values)


#: What a directory says of the clean picture, but for where it lies.
PLAIN = (
    *(longs(WIDTH, 320), longs(HEIGHT, 240), shorts(BITS, 8, 8, 8), shorts(COMPRESSION, NONE)),
    *(shorts(PHOTOMETRIC, 2), shorts(SAMPLES, 3)),
)


class Writer:
    """Collects blocks of data; ``finish`` puts the directory behind them."""

    def __init__(self, order: str = "<", big: bool = False) -> None:
        self._order = order
        self._cell, self._head = ("Q", "Q") if big else ("I", "H")
        mark = b"II" if order == "<" else b"MM"
        self._start = mark + (struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42))
        self._body = bytearray()

    @property
    def position(self) -> int:
        """Where the next block will be."""
        return len(self._start) + struct.calcsize(self._cell) + len(self._body)

    def add(self, data: bytes) -> int:
        """Append ``data``; where it is."""
        at = self.position
        self._body += data + b"\0" * (len(data) % 2)
        return at

    def directory(self, tags: Sequence[Tag], following: int = 0, count: int | None = None) -> int:
        """Append a directory; where it is. ``following`` is where the next one is said to be."""
        rows = b"".join(self._row(tag) for tag in sorted(tags, key=lambda tag: tag.tag))
        head = struct.pack(self._order + self._head, len(tags) if count is None else count)
        return self.add(head + rows + struct.pack(self._order + self._cell, following))

    def finish(self, first: int) -> bytes:
        return self._start + struct.pack(self._order + self._cell, first) + bytes(self._body)

    def _row(self, tag: Tag) -> bytes:
        code = _CODES[tag.kind]
        values = struct.pack(f"{self._order}{len(tag.values)}{code[0]}", *tag.values)
        count = len(tag.values) // len(code) if tag.count is None else tag.count
        inline = struct.calcsize(self._cell)
        if tag.raw is not None:
            field = struct.pack(self._order + self._cell, tag.raw)
        elif len(values) <= inline:
            field = values.ljust(inline, b"\0")
        else:
            field = struct.pack(self._order + self._cell, self.add(values))
        return struct.pack(f"{self._order}HH{self._cell}", tag.tag, tag.kind, count) + field


def tiff(
    blocks: Sequence[bytes], tags: Sequence[Tag], *, order: str = "<", big: bool = False, tiled: bool = False
) -> bytes:
    """One page: ``blocks`` are its strips or tiles; tags that ``tags`` names replace those that are made here."""
    writer = Writer(order, big)
    offsets = [writer.add(block) for block in blocks]
    where, sizes = (TILES, TILE_BYTES) if tiled else (STRIPS, STRIP_BYTES)
    made = (*PLAIN, longs(where, *offsets), longs(sizes, *map(len, blocks)), *tags)
    return writer.finish(writer.directory(list({tag.tag: tag for tag in made}.values())))
