"""Reads TIFF image file directories for the few tags that are needed before decoding.

A directory is the index of a TIFF page; EXIF in a JPEG, PNG or WebP is such a directory, too. ``tiff`` passes whole
files and gets entries; the readers of other formats pass EXIF blocks and get the orientation. Layout: TIFF 6.0, section
2, and BigTIFF (43 instead of 42, eight-byte offsets). Offsets outside the data are never followed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from service.image.header import Header

ORIENTATION = 274

#: Real directories have a few dozen entries. Pillow reads them in Python, so a million would block other threads.
MAX_ENTRIES = 4096

#: struct codes of the unsigned integer field types: BYTE, SHORT, LONG, LONG8.
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


class DamagedDirectory(Exception):
    """The bytes are not a readable directory. Not raised outside of ``formats``."""


class _Layout(NamedTuple):
    """Position of the first directory's offset, and struct codes of entry counts, entries and offsets."""

    start: int
    head: str
    row: str
    cell: str


_LAYOUTS: Final = {42: _Layout(4, "H", "HHI", "I"), 43: _Layout(8, "Q", "HHQ", "Q")}


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One tag: type and number of its values, the last field of its row, and the first value.

    ``first`` is None unless the values are unsigned integers inside the data.
    """

    kind: int
    count: int
    cell: bytes  # the values, or their offset
    first: int | None


@dataclass(frozen=True, slots=True)
class Directory:
    entries: dict[int, DirectoryEntry]
    followed: bool  # by another directory, which in a TIFF file is a second page

    def value(self, tag: int) -> int | None:
        entry = self.entries.get(tag)
        return None if entry is None else entry.first

    def count(self, tag: int) -> int:
        entry = self.entries.get(tag)
        return 0 if entry is None else entry.count


def read_first(data: bytes, tags: frozenset[int]) -> Directory:
    """The first directory of a TIFF stream, restricted to ``tags``; of equal tags the first is used.

    A truncated directory gives its complete entries. Raises DamagedDirectory if there is no directory.
    """
    order, layout = _layout(data)
    try:
        offset = struct.unpack_from(order + layout.cell, data, layout.start)[0]
        count = struct.unpack_from(order + layout.head, data, offset)[0]
    except (struct.error, OverflowError):
        raise DamagedDirectory from None
    if count > MAX_ENTRIES:
        raise DamagedDirectory
    unpack_row = struct.Struct(order + layout.row)
    inline = struct.calcsize(layout.cell)
    position = offset + struct.calcsize(order + layout.head)
    entries: dict[int, DirectoryEntry] = {}
    for _ in range(count):
        end = position + unpack_row.size + inline
        if end > len(data):
            return Directory(entries, followed=False)
        tag, kind, values = unpack_row.unpack_from(data, position)
        if tag in tags and tag not in entries:
            first = _first(data, position + unpack_row.size, order, layout.cell, kind, values)
            entries[tag] = DirectoryEntry(kind, values, data[end - inline : end], first)
        position = end
    following = data[position : position + inline]
    return Directory(entries, followed=len(following) == inline and any(following))


def with_entries(data: bytes, entries: dict[int, DirectoryEntry]) -> bytes:
    """The TIFF stream ``data`` with a single directory, at its end, that contains only ``entries``."""
    order, layout = _layout(data)
    rows = [
        struct.pack(order + layout.row, tag, entry.kind, entry.count) + entry.cell
        for tag, entry in sorted(entries.items())
    ]
    directory = struct.pack(order + layout.head, len(rows)), *rows, bytes(struct.calcsize(layout.cell))
    start = struct.pack(order + layout.cell, len(data))
    view = memoryview(data)
    return b"".join((view[: layout.start], start, view[layout.start + len(start) :], *directory))


def _layout(data: bytes) -> tuple[str, _Layout]:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 4:
        raise DamagedDirectory
    layout = _LAYOUTS.get(struct.unpack_from(order + "H", data, 2)[0])
    if layout is None:
        raise DamagedDirectory
    return order, layout


def _first(data: bytes, position: int, order: str, cell: str, kind: int, count: int) -> int | None:
    code = _INTEGERS.get(kind)
    if code is None or count == 0:
        return None
    if struct.calcsize(code) * count > struct.calcsize(cell):
        position = struct.unpack_from(order + cell, data, position)[0]
    if position + struct.calcsize(code) > len(data):
        return None
    value: int = struct.unpack_from(order + code, data, position)[0]
    return value


def exif_orientation(exif: bytes) -> int:
    """The orientation (1 to 8) in an EXIF block, with or without its ``Exif`` prefix; 1 if there is none.

    Cameras write 0 for an unknown orientation, which counts as 1. Raises DamagedDirectory for other values.
    """
    for _ in range(2):  # some writers prefix it twice
        exif = exif.removeprefix(b"Exif\0\0")
    entry = read_first(exif, frozenset({ORIENTATION})).entries.get(ORIENTATION)
    if entry is None:
        return 1
    if entry.first is None or entry.first > 8:
        raise DamagedDirectory
    return max(1, entry.first)


def with_orientation(header: Header, exif: bytes) -> Header:
    """``header`` with the orientation in ``exif``, or marked as damaged: the image can be decoded anyway."""
    try:
        return replace(header, exif=None, orientation=exif_orientation(exif))
    except DamagedDirectory:
        return replace(header, exif=None, exif_damaged=True)
