"""AVIF and HEIC: size, orientation and cost from the boxes of the file, for ``inspection``; one still, for ``heif``.

Boxes: ISO/IEC 14496-12; items and their properties: ISO/IEC 23008-12 and, for AVIF, MIAF (ISO/IEC 23000-22). The boxes
declare sizes that decoders need not find in the coded data: libavif decodes a frame of any size and then scales it, and
both decoders decode all frames of an item to return one. So ``coded_units`` looks for frames. libheif itself refuses an
HEVC frame that is larger than declared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from typing import Final, NoReturn

from service.errors import BadImage, ImageTooLarge, UnsupportedFormat
from service.image.formats.coded_units import FIRST_PARAMETERS, av1_frames, hevc_slices
from service.image.header import CORRUPT, TOO_MANY_BLOCKS, TRUNCATED, Format, Header, Limits

_BRANDS: Final = frozenset(b"avif avis heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
_CODECS: Final[dict[bytes, Format]] = {b"av01": "avif", b"hvc1": "heic", b"hev1": "heic"}
_DECODERS: Final[dict[Format, tuple[str, str]]] = {
    "avif": ("PIL._avif", "this is an AVIF image, which this server cannot decode; send it as JPEG or PNG"),
    "heic": (
        "pi_heif",
        "this is a HEIC photo, which this server does not decode; send it as JPEG (for the operator: it needs the"
        " optional package mobilenet-service[heif])",
    ),
}
#: Images made of other images, any number of times. Cameras write only grids.
_COMPOSED: Final = frozenset({b"iovl", b"iden", b"tili"})
#: Boxes with a sequence, or with an image in place of ``meta``.
_OTHERS: Final = frozenset({b"moov", b"mini"})
#: libavif accepts no longer side.
_MAX_SIDE: Final = 32_768
#: Coded frames and composed grids, in multiples of ``Limits.max_pixels``. A phone's photo has a grid, which takes twice
#: its pixels, and often a gain map, of a quarter of them, which is a grid as well.
_MAX_WORK: Final = 2.5
#: EXIF's orientation for a number of quarter turns anticlockwise and then, or not, a flip from left to right.
_ORIENTATIONS: Final = {False: (1, 8, 3, 6), True: (2, 7, 4, 5)}


def is_bmff_image(data: bytes) -> bool:
    """Whether ``data`` begins with a file type box that has a brand of still images, at least as a compatible one."""
    size = min(int.from_bytes(data[:4], "big"), 1024)
    return data[4:8] == b"ftyp" and not _BRANDS.isdisjoint(data[at : at + 4] for at in (8, *range(16, size, 4)))


@cache
def can_decode(image_format: Format) -> bool:
    """Whether this installation has the decoder: of ``avif`` and ``heic``."""
    return find_spec(_DECODERS[image_format][0]) is not None


def inspect_bmff(data: bytes, limits: Limits) -> Header:
    """Size and orientation of the primary image; whether the file has a sequence as well.

    For HEIC the size is that of the clean aperture, which libheif cuts out; libavif does not. Raises UnsupportedFormat
    if this installation cannot decode the file, ImageTooLarge if all that it makes a decoder do is too much.
    """
    return _File(data, replace(limits, max_side=min(limits.max_side, _MAX_SIDE))).header()


def still(data: bytes) -> bytes:
    """``data`` without its sequence, which decoders prefer to the image that ``inspect_bmff`` has read."""
    copy = bytearray(data)
    for kind, content in _Cursor(data, 0, len(data), [len(data)]).boxes():
        if kind == b"ftyp":
            brands = slice(content.position, content.end)
            copy[brands] = copy[brands].replace(b"avis", b"avif").replace(b"msf1", b"mif1")
        elif kind in _OTHERS:
            copy[content.position - 4 : content.position] = b"free"
    return bytes(copy)


def _corrupt() -> NoReturn:
    raise BadImage(CORRUPT)


class _Cursor:
    """Reads big-endian numbers, up to ``end``; BadImage after ``budget[0]`` of them, which all of a file share."""

    __slots__ = ("budget", "data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int, budget: list[int]) -> None:
        self.data, self.position, self.end, self.budget = data, position, end, budget

    def take(self, size: int) -> int:
        start = self.position
        self.position = stop = start + size
        self.budget[0] -= 1
        if self.budget[0] < 0:
            raise BadImage(TOO_MANY_BLOCKS)
        if stop > self.end:
            _corrupt()
        return int.from_bytes(self.data[start:stop], "big")

    def boxes(self) -> Iterator[tuple[bytes, _Cursor]]:
        """Kind and content of each box; this cursor then stands where the last box says that it ends."""
        while self.position + 8 <= self.end:
            start = self.position
            self.budget[0] -= 3  # a box takes longer than a number
            size, kind = self.take(4), self.data[start + 4 : start + 8]
            self.position += 4
            if size == 1:
                size = self.take(8)
            end = start + size if size else self.end
            if end < self.position:
                _corrupt()
            yield kind, _Cursor(self.data, self.position, min(end, self.end), self.budget)
            self.position = end

    def only(self, names: set[bytes]) -> dict[bytes, _Cursor]:
        """The boxes of these names. None may come twice: parsers disagree about which of them counts."""
        found: dict[bytes, _Cursor] = {}
        for kind, content in self.boxes():
            if found.setdefault(kind, content) is not content and kind in names:
                _corrupt()
        return found


@dataclass(slots=True)
class _Item:
    kind: bytes = b""
    width: int = 0
    height: int = 0
    transformations: list[tuple[bytes, list[int]]] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)  # items that it is made of


class _File:
    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data, self._limits = data, limits
        self._items: dict[int, _Item] = {}
        self._bytes_left = len(data) + 2**20  # equal tiles may be stored once
        cursor = _Cursor(data, 0, len(data), [limits.max_blocks // 4])
        top = cursor.only({b"ftyp", b"meta", *_OTHERS})
        if cursor.position != len(data) and (b"meta" not in top or top[b"meta"].end == len(data)):
            raise BadImage(TRUNCATED)
        if b"meta" not in top:
            raise BadImage("the AVIF or HEIC has no still image")
        self._animated, self._budget = b"moov" in top, cursor.budget
        top[b"meta"].take(4)
        self._meta = top[b"meta"].only({b"pitm", b"iinf", b"iloc", b"iprp", b"iref", b"idat"})
        if not self._meta.keys() >= {b"pitm", b"iinf", b"iloc", b"iprp"}:
            _corrupt()
        self._read_kinds(self._meta[b"iinf"])
        self._read_extents(self._meta[b"iloc"])
        self._read_properties(self._meta[b"iprp"])
        if b"iref" in self._meta:
            self._read_parts(self._meta[b"iref"])

    def _item(self, number: int) -> _Item:
        return self._items.setdefault(number, _Item())

    def _read_kinds(self, cursor: _Cursor) -> None:
        cursor.take(4 if cursor.take(4) >> 24 else 2)
        for kind, entry in cursor.boxes():
            if kind == b"infe" and (version := entry.take(4) >> 24) >= 2:
                item = self._item(entry.take(4 if version > 2 else 2))
                item.kind = entry.take(6).to_bytes(6, "big")[2:]

    def _read_extents(self, cursor: _Cursor) -> None:
        version, sizes = cursor.take(4) >> 24, cursor.take(2)
        offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
        for _ in range(cursor.take(2 if version < 2 else 4)):
            item = self._item(cursor.take(2 if version < 2 else 4))
            method = cursor.take(2) & 15 if version else 0
            if cursor.take(2) != 0 or method > 1:  # in another file, or in another item
                _corrupt()
            origin, limit = 0, len(self._data)
            if method:
                origin, limit = (
                    (self._meta[b"idat"].position, self._meta[b"idat"].end) if b"idat" in self._meta else (0, 0)
                )
            origin += cursor.take(base_size)
            for _ in range(cursor.take(2)):
                cursor.position += index_size if version else 0
                start = origin + cursor.take(offset_size)
                length = cursor.take(length_size)
                item.extents.append((start, start + length if length else limit))

    def _read_properties(self, cursor: _Cursor) -> None:
        properties: list[tuple[bytes, list[int]]] = []
        for kind, content in cursor.boxes():
            if kind == b"ipco":
                properties += [(name, _values(name, entry)) for name, entry in content.boxes()]
            elif kind == b"ipma":
                version_flags = content.take(4)
                for _ in range(content.take(4)):
                    item = self._item(content.take(4 if version_flags >> 24 else 2))
                    for _ in range(content.take(1)):
                        index = content.take(2) & 0x7FFF if version_flags & 1 else content.take(1) & 0x7F
                        if index > len(properties):
                            _corrupt()
                        name, values = properties[index - 1] if index else (b"", [])
                        if name == b"ispe" and not item.width:
                            item.width, item.height = values[1:]
                        elif name in (b"clap", b"irot", b"imir"):
                            item.transformations.append((name, values))
        for name, values in properties:
            if name == b"ispe":
                self._limits.check_size(*values[1:])

    def _read_parts(self, cursor: _Cursor) -> None:
        size = 4 if cursor.take(4) >> 24 else 2
        for kind, reference in cursor.boxes():
            if kind == b"dimg":
                item = self._item(reference.take(size))
                item.parts += [reference.take(size) for _ in range(reference.take(2))]
                if len(set(item.parts)) < len(item.parts):
                    _corrupt()  # as by both decoders; so each item counts once

    def header(self) -> Header:
        cursor = self._meta[b"pitm"]
        primary = self._items.get(cursor.take(4 if cursor.take(4) >> 24 else 2), _Item())
        first = self._item(primary.parts[0]) if primary.kind == b"grid" and primary.parts else primary
        image_format = _CODECS.get(first.kind)
        if image_format is None or not _COMPOSED.isdisjoint(item.kind for item in self._items.values()):
            raise UnsupportedFormat("a HEIF image of an unusual kind, neither AVIF nor HEIC; send it as JPEG or PNG")
        if not can_decode(image_format):
            raise UnsupportedFormat(_DECODERS[image_format][1])
        work = sum(self._work(item, first.kind) for item in self._items.values())
        if work > _MAX_WORK * self._limits.max_pixels:
            raise ImageTooLarge(
                f"the image's frames, layers and tiles have {work / 1e6:.1f} megapixels together;"
                f" at most {_MAX_WORK * self._limits.max_pixels / 1e6:g} are accepted"
            )
        return self._turned(image_format, primary)

    def _turned(self, image_format: Format, item: _Item) -> Header:
        width, height, turns, mirrored = item.width, item.height, 0, False
        if image_format == "avif":
            # MIAF demands this order, and libavif takes it for granted.
            item.transformations.sort(key=lambda entry: (b"irot", b"imir", b"clap").index(entry[0]))
        for name, values in item.transformations:
            if name == b"irot":
                turns += -values[0] if mirrored else values[0]
            elif name == b"imir":
                turns += 0 if values[0] & 1 else 2  # top and bottom are exchanged
                mirrored = not mirrored
            elif image_format == "heic":
                width, height = ((side + scale // 2) // scale for side, scale in (values[:2], values[2:]) if scale)
        orientation = _ORIENTATIONS[mirrored][turns % 4]
        return Header(image_format, width, height, orientation=orientation, animated=self._animated)

    def _work(self, item: _Item, tile_kind: bytes) -> int:
        """The pixels that decoding ``item`` touches."""
        pixels = item.width * item.height
        if item.kind == b"grid":
            payload = self._payload(item)
            size = 4 if len(payload) > 1 and payload[1] & 1 else 2
            output = [int.from_bytes(payload[at : at + size], "big") for at in (4, 4 + size)]
            if output != [item.width, item.height] or any(self._item(part).kind != tile_kind for part in item.parts):
                _corrupt()
        elif item.kind == b"av01":
            frames, *largest = av1_frames(self._payload(item), self._budget[0])
            self._limits.check_size(*largest)
            return frames * max(pixels, largest[0] * largest[1])
        elif item.kind in _CODECS:
            return pixels * hevc_slices(self._payload(item), self._budget[0])
        return pixels

    def _payload(self, item: _Item) -> memoryview:
        """The item's data. Raises BadImage if some of it is missing."""
        if any(end > len(self._data) for _, end in item.extents):
            raise BadImage(TRUNCATED)
        parts = [memoryview(self._data)[start:end] for start, end in item.extents]
        self._bytes_left -= sum(map(len, parts))
        self._budget[0] -= 1
        if self._bytes_left < 0:
            _corrupt()
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def _values(name: bytes, content: _Cursor) -> list[int]:
    """The fields of a property that matters here: of ``ispe`` after its version. BadImage for slices in ``hvcC``."""
    if name == b"hvcC":
        content.position += 22
        for _ in range(content.take(1)):
            content.position += 1
            for _ in range(content.take(2)):
                size = content.take(2)
                if size == 0 or content.take(1) >> 1 < FIRST_PARAMETERS:
                    _corrupt()
                content.position += size - 1
    count, size = {b"ispe": (3, 4), b"clap": (4, 4), b"irot": (1, 1), b"imir": (1, 1)}.get(name, (0, 0))
    return [content.take(size) for _ in range(count)]
