"""AVIF and HEIC: size, orientation and cost from the boxes of the file, for ``inspection``; one still, for ``heif``.

Boxes: ISO/IEC 14496-12; items and their properties: ISO/IEC 23008-12 and, for AVIF, MIAF (ISO/IEC 23000-22). The boxes
declare sizes that decoders need not find in the coded data: libavif decodes a frame of any size and then scales it. And
decoders decode all frames of an item to return one. So the headers of the coded units are read here as well: OBUs of
AV1 (AV1 specification, 5.3 and 5.5), NAL units of HEVC (ITU-T H.265, 7.3.1). libheif refuses larger HEVC frames itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from typing import Final, NoReturn

from service.errors import BadImage, ImageTooLarge, UnsupportedFormat
from service.image.header import CORRUPT, TOO_MANY_BLOCKS, TRUNCATED, Format, Header, Limits

_BRANDS: Final = frozenset(b"avif avis heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
_CODECS: Final[dict[bytes, Format]] = {b"av01": "avif", b"hvc1": "heic", b"hev1": "heic"}
_DECODERS: Final[dict[Format, str]] = {"avif": "PIL._avif", "heic": "pi_heif"}
_NOT_HERE: Final[dict[Format, str]] = {
    "avif": "an AVIF image, which this installation's Pillow cannot decode; send it as JPEG or PNG",
    "heic": "a HEIC image, which this server does not decode; send it as JPEG (for the operator: it needs the optional"
    " package mobilenet-service[heif])",
}
#: Images made of other images, without a limit on the work. Cameras write none of them, only grids.
_COMPOSED: Final = frozenset({b"iovl", b"iden", b"tili"})
#: These boxes are about a sequence, or describe the image a second time.
_OTHERS: Final = frozenset({b"moov", b"mini"})
#: libavif accepts no longer side.
_MAX_SIDE: Final = 32_768
#: Coded frames and composed grids, in multiples of ``Limits.max_pixels``. A phone's photo has a grid, which takes twice
#: its pixels, and often a gain map, of a quarter of them, which is a grid as well.
_MAX_WORK: Final = 2.5
#: EXIF's orientation for a number of quarter turns anticlockwise and then, or not, a flip from left to right.
_ORIENTATIONS: Final = {
    **{(0, False): 1, (1, False): 8, (2, False): 3, (3, False): 6},
    **{(0, True): 2, (1, True): 7, (2, True): 4, (3, True): 5},
}
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # types of OBUs
_SLICES: Final = 32  # the NAL units whose type is below


def is_bmff_image(data: bytes) -> bool:
    """Whether ``data`` begins with a file type box that has a brand of still images, at least among the compatible."""
    size = min(int.from_bytes(data[:4], "big"), 1024)
    return data[4:8] == b"ftyp" and not _BRANDS.isdisjoint(data[at : at + 4] for at in (8, *range(16, size, 4)))


def inspect_bmff(data: bytes, limits: Limits) -> Header:
    """Size and orientation of the primary image; whether the file has a sequence as well.

    For HEIC the size is that of the clean aperture, which libheif cuts out; libavif does not. Raises UnsupportedFormat
    if this installation cannot decode the file, ImageTooLarge if all that it makes a decoder do is too much.
    """
    return _File(data, replace(limits, max_side=min(limits.max_side, _MAX_SIDE))).header()


def still(data: bytes) -> bytes:
    """``data`` without its sequence, which decoders prefer to the image that ``inspect_bmff`` has read."""
    copy = bytearray(data)
    for kind, start, end in _boxes(_Cursor(data, 0, len(data), [1 << 20])):
        if kind == b"ftyp":
            copy[start:end] = copy[start:end].replace(b"avis", b"avif").replace(b"msf1", b"mif1")
        elif kind in _OTHERS:
            copy[start - 4 : start] = b"free"
    return bytes(copy)


@cache
def can_decode(image_format: Format) -> bool:
    """Whether this installation has the decoder: of ``avif`` and ``heic``."""
    return find_spec(_DECODERS[image_format]) is not None


def _corrupt() -> NoReturn:
    raise BadImage(CORRUPT)


class _Cursor:
    """Reads big-endian numbers, up to ``end``; BadImage after ``budget[0]`` of them, which all of a file share."""

    __slots__ = ("budget", "data", "end", "position")

    def __init__(self, data: bytes | memoryview, position: int, end: int, budget: list[int]) -> None:
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

    def part(self, start: int, end: int) -> _Cursor:
        return _Cursor(self.data, start, end, self.budget)


def _boxes(cursor: _Cursor) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box; the end of the last may lie beyond that of the data."""
    while cursor.position + 8 <= cursor.end:
        start = cursor.position
        size = cursor.take(4)
        kind = bytes(cursor.data[start + 4 : start + 8])
        cursor.position = start + 8
        if size == 1:
            size = cursor.take(8)
        end = start + size if size else cursor.end
        if end < cursor.position:
            _corrupt()
        yield kind, cursor.position, end
        cursor.position = end


@dataclass(slots=True)
class _Item:
    kind: bytes = b""
    properties: list[tuple[bytes, int, int]] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)  # items that it is made of
    uses: int = 0  # as a part of others


class _File:
    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data, self._limits = data, limits
        self._whole = _Cursor(data, 0, len(data), [limits.max_blocks // 2])
        self._items: dict[int, _Item] = {}
        self._payload_left = len(data) + 2**20  # equal tiles may be stored once
        top = self._only_boxes(self._whole, {b"ftyp", b"meta", *_OTHERS})
        self._animated = b"moov" in top
        if b"meta" not in top:
            raise BadImage("the AVIF or HEIC has no still image" if self._whole.position == len(data) else TRUNCATED)
        start, end = top[b"meta"]
        if end > len(data):
            raise BadImage(TRUNCATED)
        names = {b"pitm", b"iinf", b"iloc", b"iprp", b"iref", b"idat"}
        self._meta = self._only_boxes(self._whole.part(start + 4, end), names)
        self._read_kinds()
        self._read_extents()
        self._read_properties()
        self._read_parts()

    def _only_boxes(self, cursor: _Cursor, names: set[bytes]) -> dict[bytes, tuple[int, int]]:
        """Those of ``names``. None may come twice: parsers disagree about which of them counts."""
        found: dict[bytes, tuple[int, int]] = {}
        for kind, start, end in _boxes(cursor):
            if kind in names:
                if kind in found:
                    _corrupt()
                found[kind] = start, end
        return found

    def _full_box(self, name: bytes) -> tuple[_Cursor, int, int]:
        """Its content, version and flags."""
        if name not in self._meta:
            _corrupt()
        start, end = self._meta[name]
        cursor = self._whole.part(start, min(end, self._whole.end))
        return cursor, cursor.take(1), cursor.take(3)

    def _item(self, number: int) -> _Item:
        return self._items.setdefault(number, _Item())

    def _read_kinds(self) -> None:
        cursor, version, _ = self._full_box(b"iinf")
        cursor.take(4 if version else 2)
        for kind, start, end in _boxes(cursor):
            if kind == b"infe":
                entry = cursor.part(start, min(end, cursor.end))
                version = entry.take(4) >> 24
                if version >= 2:
                    item = self._item(entry.take(4 if version > 2 else 2))
                    item.kind = entry.take(6).to_bytes(6, "big")[2:]

    def _read_extents(self) -> None:
        cursor, version, _ = self._full_box(b"iloc")
        sizes = cursor.take(2)
        offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
        for _ in range(cursor.take(2 if version < 2 else 4)):
            item = self._item(cursor.take(2 if version < 2 else 4))
            method = cursor.take(2) & 15 if version else 0
            if cursor.take(2) != 0 or method > 1:  # in another file, or in another item
                _corrupt()
            origin, limit = self._meta.get(b"idat", (0, 0)) if method else (0, len(self._data))
            origin += cursor.take(base_size)
            for _ in range(cursor.take(2)):
                cursor.position += index_size if version else 0
                start = origin + cursor.take(offset_size)
                length = cursor.take(length_size)
                item.extents.append((start, start + length if length else limit))

    def _read_properties(self) -> None:
        if b"iprp" not in self._meta:
            _corrupt()
        start, end = self._meta[b"iprp"]
        container = self._whole.part(start, min(end, self._whole.end))
        properties: list[tuple[bytes, int, int]] = []
        for kind, start, end in _boxes(container):
            cursor = container.part(start, min(end, container.end))
            if kind == b"ipco":
                properties += _boxes(cursor)
            elif kind == b"ipma":
                version_flags = cursor.take(4)
                for _ in range(cursor.take(4)):
                    item = self._item(cursor.take(4 if version_flags >> 24 else 2))
                    for _ in range(cursor.take(1)):
                        index = cursor.take(2) & 0x7FFF if version_flags & 1 else cursor.take(1) & 0x7F
                        if index > len(properties):
                            _corrupt()
                        if index:
                            item.properties.append(properties[index - 1])
        for kind, start, end in properties:
            if kind == b"ispe":
                self._limits.check_size(*self._numbers(start + 4, end, 2))

    def _read_parts(self) -> None:
        if b"iref" not in self._meta:
            return
        cursor, version, _ = self._full_box(b"iref")
        size = 4 if version else 2
        for kind, start, end in _boxes(cursor):
            if kind == b"dimg":
                reference = cursor.part(start, min(end, cursor.end))
                item = self._item(reference.take(size))
                item.parts += [reference.take(size) for _ in range(reference.take(2))]
        for item in list(self._items.values()):
            for part in item.parts:
                self._item(part).uses += 1

    def _numbers(self, start: int, end: int, count: int) -> list[int]:
        cursor = self._whole.part(start, min(end, self._whole.end))
        return [cursor.take(4) for _ in range(count)]

    def header(self) -> Header:
        cursor, version, _ = self._full_box(b"pitm")
        primary = self._items.get(cursor.take(4 if version else 2), _Item())
        kind = primary.kind
        if kind == b"grid" and primary.parts:
            kind = self._item(primary.parts[0]).kind
        image_format = _CODECS.get(kind)
        if image_format is None or not _COMPOSED.isdisjoint(item.kind for item in self._items.values()):
            raise UnsupportedFormat("a HEIF image of an unusual kind, neither AVIF nor HEIC; send it as JPEG or PNG")
        if not can_decode(image_format):
            raise UnsupportedFormat(_NOT_HERE[image_format])
        work = sum(self._work(item, kind) * max(1, item.uses) for item in self._items.values())
        if work > _MAX_WORK * self._limits.max_pixels:
            raise ImageTooLarge(
                f"the image's frames, layers and tiles have {work / 1e6:.1f} megapixels together;"
                f" at most {_MAX_WORK * self._limits.max_pixels / 1e6:g} are accepted"
            )
        return self._turned(image_format, primary)

    def _turned(self, image_format: Format, primary: _Item) -> Header:
        (width, height), turns, mirrored = self._size(primary), 0, False
        transformations = [entry for entry in primary.properties if entry[0] in (b"clap", b"irot", b"imir")]
        if image_format == "avif":
            # MIAF demands this order, and libavif takes it for granted.
            transformations.sort(key=lambda entry: (b"irot", b"imir", b"clap").index(entry[0]))
        for name, start, end in transformations:
            if name == b"irot":
                angle = self._whole.part(start, end).take(1) & 3
                turns += -angle if mirrored else angle
            elif name == b"imir":
                turns += 0 if self._whole.part(start, end).take(1) & 1 else 2  # a flip of top and bottom
                mirrored = not mirrored
            elif image_format == "heic":
                aperture = self._numbers(start, end, 4)
                if 0 in aperture:
                    _corrupt()
                width, height = aperture[0] // aperture[1], aperture[2] // aperture[3]
        orientation = _ORIENTATIONS[turns % 4, mirrored]
        return Header(image_format, width, height, orientation=orientation, animated=self._animated)

    def _size(self, item: _Item) -> tuple[int, int]:
        for kind, start, end in item.properties:
            if kind == b"ispe":
                width, height = self._numbers(start + 4, end, 2)
                return width, height
        return 0, 0

    def _work(self, item: _Item, kind: bytes) -> int:
        """The pixels that decoding ``item`` touches. ``kind``: of the items that are decoded, beside grids."""
        width, height = self._size(item)
        if item.kind == b"grid":
            payload = self._payload(item)
            wide = 4 if payload[1:2] and payload[1] & 1 else 2
            output = [int.from_bytes(payload[at : at + wide], "big") for at in (4, 4 + wide)]
            if output != [width, height] or any(self._item(part).kind != kind for part in item.parts):
                _corrupt()
            return width * height
        if item.kind == b"av01":
            return self._av1_work(self._payload(item), width * height)
        if item.kind in _CODECS:
            return width * height * self._slices(self._payload(item))
        return width * height

    def _payload(self, item: _Item) -> bytes | memoryview:
        """The item's data. Raises BadImage if some of it is missing."""
        if any(end > len(self._data) for _, end in item.extents):
            raise BadImage(TRUNCATED)
        self._payload_left -= sum(max(0, end - start) for start, end in item.extents)
        if self._payload_left < 0:
            _corrupt()
        parts = [memoryview(self._data)[start:end] for start, end in item.extents]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _av1_work(self, payload: bytes | memoryview, pixels: int) -> int:
        frames = 0
        units = _Cursor(payload, 0, len(payload), self._whole.budget)
        while units.position < units.end:
            unit = units.take(1)
            units.position += unit >> 2 & 1
            size = units.end - units.position
            if unit & 2:
                size = 0
                for shift in range(0, 56, 7):
                    byte = units.take(1)
                    size |= (byte & 0x7F) << shift
                    if byte < 0x80:
                        break
            kind = unit >> 3 & 15
            if kind == _SEQUENCE:
                largest = _frame_size(payload[units.position : units.position + 512])
                self._limits.check_size(*largest)
                pixels = max(pixels, largest[0] * largest[1])
            frames += kind in (_FRAME_HEADER, _FRAME)
            units.position += size
        return frames * pixels

    def _slices(self, payload: bytes | memoryview) -> int:
        units = _Cursor(payload, 0, len(payload), self._whole.budget)
        count = 0
        while units.position + 6 <= units.end:
            size = units.take(4)
            count += (payload[units.position] >> 1 & 63) < _SLICES
            units.position += size
        return count


def _frame_size(unit: bytes | memoryview) -> tuple[int, int]:
    """The largest width and height that a sequence header allows its frames."""
    bits, left = int.from_bytes(unit, "big"), 8 * len(unit)

    def take(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            _corrupt()
        return bits >> left & (1 << count) - 1

    take(4)  # profile, still picture
    if take(1):  # a header for a still picture alone
        take(5)
    else:
        delay_bits = 0
        if take(1):  # timing
            take(64)
            if take(1):  # ticks per picture, in Elias's gamma code
                take(next((zeros for zeros in range(32) if take(1)), 32))
            if take(1):
                delay_bits = 1 + take(5)
                take(42)
        display_delays = take(1)
        for _ in range(1 + take(5)):
            take(12)
            if take(5) > 7:
                take(1)
            if delay_bits and take(1):
                take(2 * delay_bits + 1)
            if display_delays and take(1):
                take(4)
    width_bits, height_bits = 1 + take(4), 1 + take(4)
    return 1 + take(width_bits), 1 + take(height_bits)
