"""Reads TIFF image file directories for the few tags that are needed before decoding.

A directory is the index of a TIFF page; EXIF in a JPEG, PNG or WebP is such a directory, too. ``tiff`` passes whole
files and gets entries; the readers of other formats pass EXIF blocks and get the orientation. Layout: TIFF 6.0, section
2, and BigTIFF (43 instead of 42, eight-byte offsets). Offsets outside the data are never followed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from service.image.formats.tiff_tags import ORIENTATION
from service.image.header import Header

#: Real directories have a few dozen entries. Pillow reads them in Python, so a million would block other threads.
MAX_ENTRIES = 4096

_LONG: Final = 4
#: struct codes of the unsigned integer field types: BYTE, SHORT, LONG, IFD, LONG8.
_INTEGERS = {1: "B", 3: "H", _LONG: "I", 13: "I", 16: "Q"}


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
    """One tag: type and number of its values, the last field of its row, and where the values are."""

    kind: int
    count: int
    cell: bytes  # the values, or their offset; values made by ``Directory.numbers`` may be longer than that field
    position: int = 0


@dataclass(frozen=True, slots=True)
class Directory:
    """The entries of one directory of ``data``."""

    data: bytes
    order: str  # of bytes, for struct
    entries: dict[int, DirectoryEntry]
    followed: bool  # by another directory, which in a TIFF file is a second page

    def value(self, tag: int) -> int | None:
        """The first value; None unless the values are unsigned integers inside the data."""
        return next(iter(self.values(tag, 1)), None)

    def values(self, tag: int, most: int) -> tuple[int, ...]:
        """The first ``most`` values; empty unless they are unsigned integers inside the data."""
        entry = self.entries.get(tag)
        code = None if entry is None else _INTEGERS.get(entry.kind)
        if entry is None or code is None:
            return ()
        try:
            return struct.unpack_from(f"{self.order}{min(entry.count, most)}{code}", self.data, entry.position)
        except (struct.error, OverflowError):
            return ()

    def count(self, tag: int) -> int:
        entry = self.entries.get(tag)
        return 0 if entry is None else entry.count

    def numbers(self, *values: int) -> DirectoryEntry:
        """An entry for ``with_entries`` with these values."""
        return DirectoryEntry(_LONG, len(values), struct.pack(f"{self.order}{len(values)}I", *values))


def read_first(data: bytes, tags: frozenset[int]) -> Directory:
    """The first directory of a TIFF stream, restricted to ``tags``; of equal tags the first is used.

    A truncated directory gives its complete entries. Raises DamagedDirectory if there is no directory.
    """
    order, layout = _layout(data)
    try:
        offset = struct.unpack_from(order + layout.cell, data, layout.start)[0]
    except struct.error:
        raise DamagedDirectory from None
    return read_at(data, offset, tags)


def read_at(data: bytes, offset: int, tags: frozenset[int]) -> Directory:
    """Like ``read_first``, for the directory at ``offset``."""
    order, layout = _layout(data)
    try:
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
            return Directory(data, order, entries, followed=False)
        tag, kind, values = unpack_row.unpack_from(data, position)
        if tag in tags and tag not in entries:
            cell = data[end - inline : end]
            fits = struct.calcsize(_INTEGERS.get(kind, "")) * values <= inline
            at = end - inline if fits else struct.unpack(order + layout.cell, cell)[0]
            entries[tag] = DirectoryEntry(kind, values, cell, at)
        position = end
    following = data[position : position + inline]
    return Directory(data, order, entries, followed=len(following) == inline and any(following))


def with_entries(data: bytes, entries: dict[int, DirectoryEntry]) -> bytes:
    """The TIFF stream ``data`` with a single directory, behind its end, that contains only ``entries``."""
    order, layout = _layout(data)
    inline = struct.calcsize(layout.cell)
    rows, lists, end = [], [], len(data)
    for tag, entry in sorted(entries.items()):
        cell = entry.cell.ljust(inline, b"\0")
        if len(cell) > inline:
            lists.append(cell)
            cell = struct.pack(order + layout.cell, end)
            end += len(lists[-1])
        rows.append(struct.pack(order + layout.row, tag, entry.kind, entry.count) + cell)
    directory = struct.pack(order + layout.head, len(rows)), *rows, bytes(inline)
    start = struct.pack(order + layout.cell, end)
    view = memoryview(data)
    return b"".join((view[: layout.start], start, view[layout.start + len(start) :], *lists, *directory))


def _layout(data: bytes) -> tuple[str, _Layout]:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 4:
        raise DamagedDirectory
    layout = _LAYOUTS.get(struct.unpack_from(order + "H", data, 2)[0])
    if layout is None:
        raise DamagedDirectory
    return order, layout


def exif_orientation(exif: bytes) -> int:
    """The orientation (1 to 8) in an EXIF block, with or without its ``Exif`` prefix; 1 if there is none.

    Cameras write 0 for an unknown orientation, which counts as 1. Raises DamagedDirectory for other values.
    """
    for _ in range(2):  # some writers prefix it twice
        exif = exif.removeprefix(b"Exif\0\0")
    directory = read_first(exif, frozenset({ORIENTATION}))
    if ORIENTATION not in directory.entries:
        return 1
    value = directory.value(ORIENTATION)
    if value is None or value > 8:
        raise DamagedDirectory
    return max(1, value)


def with_orientation(header: Header, exif: bytes) -> Header:
    """``header`` with the orientation in ``exif``, or marked as damaged: the image can be decoded anyway."""
    try:
        return replace(header, exif=None, orientation=exif_orientation(exif))
    except DamagedDirectory:
        return replace(header, exif=None, exif_damaged=True)
