"""JPEG: size, components, EXIF and number of scans from its markers, for ``inspection``; its pixels, for ``decode``.

``decode_jpeg`` relies on the result, because Pillow's own parser of markers is not run. Layout: ITU-T T.81, annex B. In
a scan every 0xFF in the data is followed by 0x00 or a restart marker, so the next marker can be found without decoding.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, JpegImagePlugin

from service.errors import BadImage
from service.image.header import CORRUPT, TOO_MANY_BLOCKS, TRUNCATED, Header, Limits

_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_PROGRESSIVE: Final = 0xC2
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
#: Frame headers, Huffman tables, arithmetic conditioning, scan, quantisation, lines, restarts, applications,
#: comment. libjpeg refuses all others, and parsers disagree about their length.
_SEGMENTS: Final = _SOF | {0xC4, 0xCC, _SOS, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE}

#: Without preceding fill bytes: the search would try an unterminated run of them from each of its bytes.
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
#: An unsupported frame header, for JPEG data that cannot be parsed: marker, length, 8 bits per sample.
UNUSUAL_FRAME: Final = re.compile(rb"\xff[\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\x00[\x0b\x0e\x11\x14\x17\x1a]\x08")
#: Arithmetic coding can store any number of coefficients in a bit, so the work is not bounded by the file's size.
UNUSUAL: Final = "arithmetic, lossless and hierarchical JPEG are not supported; send baseline or progressive"

#: By the number of components: what simplejpeg is asked for, Pillow's mode and its raw mode (Adobe inverts CMYK).
_COLOURS: Final = {1: ("GRAY", "L", "L"), 3: ("RGB", "RGB", "RGB"), 4: ("CMYK", "CMYK", "CMYK;I")}
_END: Final = b"\xff\xd9"

#: The beginnings of libjpeg's warnings about damage, and its warning about a missing end (``jerror.h``). It has others
#: about intact images, such as an unknown JFIF revision.
_DAMAGE: Final = "Corrupt JPEG data: "
_ENDLESS: Final = "Premature end of JPEG file"
WARN_ENDLESS: Final = "the JPEG has no end marker; all of its pixels are there"


def inspect_jpeg(data: bytes, limits: Limits) -> Header:
    """Size and cost from the segments before the first scan; scans are counted only if there can be many.

    Raises BadImage without a frame before the first scan, or if libjpeg does not decode its kind.
    """
    size: tuple[int, int] | None = None
    components, progressive = 0, False
    exif: bytes | None = None
    for start, position in _segments(data, limits):
        kind, body, length = data[start + 1], start + 4, position - start - 2
        if kind in _SOF:
            if size is not None or length < 8:
                raise BadImage("the JPEG's frame header is damaged")
            if data[body] != 8:
                raise BadImage(f"JPEG with {data[body]} bits per sample is not supported; send 8 bits")
            if kind not in _SEQUENTIAL and kind != _PROGRESSIVE:
                raise BadImage(UNUSUAL)
            size = (data[body + 3] << 8 | data[body + 4], data[body + 1] << 8 | data[body + 2])
            components, progressive = data[body + 5], kind == _PROGRESSIVE
            if components not in (1, 3, 4):
                raise BadImage(f"JPEG with {components} colour components is not supported; send 1, 3 or 4")
        elif kind == _APP1 and exif is None and data.startswith(b"Exif\0\0", body):
            exif = data[body:position]
        elif kind == _SOS and length < 6:
            raise BadImage("the JPEG's scan header is damaged")
    if size is None:
        raise BadImage("the JPEG has no frame header")
    # If the first scan of a sequential JPEG has all components, libjpeg reads no other.
    several = progressive or data[body] < components
    scans = _count_scans(data, position, limits) if several else 1
    return Header("jpeg", *size, exif, components=components, scans=scans)


def _segments(data: bytes, limits: Limits) -> Iterator[tuple[int, int]]:
    """Start and end of each segment that has a length, up to the first scan header, after which pixels follow."""
    position, blocks = 2, 0
    while True:
        blocks += 1  # fill bytes and stray markers count as well
        if blocks > limits.max_segments:
            raise BadImage(TOO_MANY_BLOCKS)
        start = data.find(b"\xff", position)
        if start < 0 or start + 4 > len(data):
            raise BadImage(TRUNCATED)
        kind = data[start + 1]
        if kind in (0x00, 0xFF):
            position = start + 1
            continue
        if kind in _ALONE:
            position = start + 2
            continue
        if kind != _EOI and kind not in _SEGMENTS:
            raise BadImage(CORRUPT)
        length = data[start + 2] << 8 | data[start + 3]
        if length < 2 or kind == _EOI:
            raise BadImage("the JPEG has no image data")
        position = start + 2 + length
        if position > len(data):
            raise BadImage(TRUNCATED)
        yield start, position
        if kind == _SOS:
            return


def _count_scans(data: bytes, position: int, limits: Limits) -> int:
    """The number of scans of this image; the data of the first begins at ``position``."""
    # A fast upper bound; it also counts in data after the image, such as a phone's video.
    bound = 1 + data.count(b"\xff\xda", position)
    if bound <= limits.free_scans:
        return bound
    scans = 1
    for _ in range(limits.max_segments):
        marker = _MARKER.search(data, position)
        if marker is None:
            return scans
        kind, position = data[marker.end() - 1], marker.end()
        if kind == _EOI:
            return scans
        if kind in _ALONE:
            continue
        scans += kind == _SOS
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    raise BadImage(TOO_MANY_BLOCKS)


def decode_jpeg(
    data: bytes, header: Header, limits: Limits, shortest: int | None = None
) -> tuple[Image.Image, str | None]:
    """The image in mode L, RGB or CMYK, and a warning if libjpeg finds it damaged or without an end marker.

    With ``shortest``, at the smallest of the scales 1/8, 1/4, 1/2 and 1 at which no side is shorter than that.
    ``data`` must have passed ``inspect_jpeg``. Raises what Pillow raises for a scan that is cut or cannot be decoded.

    simplejpeg stops at libjpeg's warnings and quotes them; Pillow hides them. Both give the same pixels. Pillow decodes
    what simplejpeg stops at: damaged images, and intact ones with an unusual subsampling.
    """
    try:
        return _decode_intact(data, header, shortest), None
    except ValueError as error:
        complaint = str(error)
    with suppress(ValueError):
        if complaint == _ENDLESS:
            return _decode_intact(data + _END, header, shortest), WARN_ENDLESS
        if "extraneous" in complaint and data.count(b"\n") != data.count(b"\r\n"):
            # Bytes that belong to no segment before the scan are no damage, unless every line feed has got a carriage
            # return, which a transfer as text adds.
            *head, (scan, _) = _segments(data, limits)
            parts = [data[:2], *(data[start:end] for start, end in head), data[scan:]]
            return _decode_intact(b"".join(parts), header, shortest), None
    image = _Jpeg(data, header)
    if shortest is not None:
        image.draft(None, (shortest, shortest))
    image.load()
    return image, f"the JPEG is damaged: {complaint.removeprefix(_DAMAGE)}" if complaint.startswith(_DAMAGE) else None


def _decode_intact(data: bytes, header: Header, shortest: int | None) -> Image.Image:
    """Raises ValueError with libjpeg's words if it stops or complains."""
    width, height = header.width, header.height
    scale = 1
    while shortest is not None and scale < 8 and min(width, height) >= 2 * scale * shortest:
        scale *= 2
    colours, mode, _ = _COLOURS[header.components]
    pixels = simplejpeg.decode_jpeg(data, colours, min_width=-(-width // scale), min_height=-(-height // scale))
    if mode == "CMYK":
        pixels = np.invert(pixels)  # as Adobe writes them, like every reader
    return Image.frombuffer(mode, (pixels.shape[1], pixels.shape[0]), pixels, "raw", mode, 0, 1)


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """Pillow's decoder without its parser of markers, which runs in Python; ``header`` replaces it.

    Of an MPO (a JPEG followed by further images) only the first image is decoded.
    """

    def __init__(self, data: bytes, header: Header) -> None:
        self._header = header
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        self._size = (self._header.width, self._header.height)
        _, self._mode, rawmode = _COLOURS[self._header.components]
        self.tile = [ImageFile._Tile("jpeg", (0, 0, *self._size), 0, (rawmode, ""))]
