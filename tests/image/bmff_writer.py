"""Writes the boxes of AVIF and HEIC around coded data, so that tests can let them lie.

``coded`` takes that data from a file of one item; ``write`` puts items into a file, the first of them as the primary.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from PIL import Image


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def ispe(width: int, height: int) -> bytes:
    return full(b"ispe", struct.pack(">II", width, height))


def irot(quarters: int) -> bytes:
    """Anticlockwise."""
    return box(b"irot", bytes((quarters,)))


def imir(axis: int) -> bytes:
    """0: top and bottom are exchanged; 1: left and right."""
    return box(b"imir", bytes((axis,)))


def clap(width: int, height: int, stored_width: int, stored_height: int) -> bytes:
    """The upper left of the stored picture."""
    offsets = width - stored_width, 2, height - stored_height, 2  # of the centre, in halves
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, *offsets))


def grid(rows: int, columns: int, width: int, height: int) -> bytes:
    """The data of a grid item."""
    return struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)


class Coded(NamedTuple):
    """An item's kind, its data and the property that configures the decoder."""

    kind: bytes
    data: bytes
    configuration: bytes


def coded(data: bytes) -> Coded:
    kind, name = (b"av01", b"av1C") if b"av1C" in data else (b"hvc1", b"hvcC")
    at = data.index(name) - 4
    return Coded(kind, data[data.index(b"mdat") + 4 :], data[at : at + int.from_bytes(data[at : at + 4], "big")])


@cache
def av1(width: int = 48, height: int = 32, value: int = 120) -> Coded:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (value, 60, 200)).save(buffer, "AVIF")
    return coded(buffer.getvalue())


@dataclass(frozen=True)
class Item:
    kind: bytes
    data: bytes
    properties: tuple[bytes, ...] = ()
    parts: tuple[int, ...] = ()  # numbers, from 1 on, of the items that it is made of
    extent: tuple[int, int] | None = None  # in the file, in place of that of its data


def picture(source: Coded, *properties: bytes) -> Item:
    return Item(source.kind, source.data, (source.configuration, *properties))


def _essential(prop: bytes) -> bool:
    """A reader that does not know it may not show the image."""
    return prop[4:8] not in (b"ispe", b"pixi")


def write(
    items: Iterable[Item], brands: bytes = b"", before: bytes = b"", replace: Mapping[bytes, bytes] | None = None
) -> bytes:
    """``before``: boxes between the file type and the rest. ``replace``: whole boxes of ``meta``, by name."""
    items = list(items)
    brands = brands or (b"avif" if any(item.kind == b"av01" for item in items) else b"heic")
    start = box(b"ftyp", brands[:4], bytes(4), brands, b"mif1miaf") + before

    def meta(at: int) -> bytes:
        properties = sorted({prop for item in items for prop in item.properties})
        entries, extents, associations = [], [], []
        for number, item in enumerate(items, 1):
            entries.append(full(b"infe", struct.pack(">HH", number, 0), item.kind, b"\0", version=2))
            offset, length = item.extent or (at, len(item.data))
            extents.append(struct.pack(">HHHII", number, 0, 1, offset, length))
            at += len(item.data)
            indices = bytes(1 + properties.index(prop) | 128 * _essential(prop) for prop in item.properties)
            associations.append(struct.pack(">HB", number, len(indices)) + indices)
        count = struct.pack(">H", len(items))
        references = [
            box(b"dimg", struct.pack(f">HH{len(item.parts)}H", number, len(item.parts), *item.parts))
            for number, item in enumerate(items, 1)
            if item.parts
        ]
        boxes = {
            b"hdlr": full(b"hdlr", bytes(4), b"pict", bytes(13)),
            b"pitm": full(b"pitm", struct.pack(">H", 1)),
            b"iinf": full(b"iinf", count, *entries),
            b"iloc": full(b"iloc", b"\x44\0", count, *extents),
            b"iref": full(b"iref", *references) if references else b"",
            b"iprp": box(
                b"iprp",
                box(b"ipco", *properties),
                full(b"ipma", struct.pack(">I", len(items)), *associations),
            ),
            **(replace or {}),
        }
        return full(b"meta", *boxes.values())

    size = len(meta(0))
    return start + meta(len(start) + size + 8) + box(b"mdat", *(item.data for item in items))
