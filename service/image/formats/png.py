"""PNG: the header for ``inspection``; for ``decode``, the chunks without metadata, and a correction of transparency."""

from __future__ import annotations

import struct
from typing import Final

from PIL import PngImagePlugin

from service.errors import BadImage
from service.image.header import TOO_MANY_BLOCKS, TRUNCATED, Header, Limits

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

#: Chunks that affect pixels, and the end.
_PIXEL_CHUNKS: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
#: Pillow scales 2- and 4-bit grey to 0 to 255 by these factors, but not the transparent grey of tRNS.
_GREY_FACTORS: Final = {"L;2": 85, "L;4": 17}


def inspect_png(data: bytes, limits: Limits) -> Header:
    """Size, orientation and number of frames. Raises BadImage if the header chunk does not come first."""
    if len(data) < 33:
        raise BadImage(TRUNCATED)
    if data[8:16] != b"\0\0\0\rIHDR":
        raise BadImage("the PNG does not begin with its header chunk")
    width, height = struct.unpack_from(">II", data, 16)
    frames, shown, pixels, complete, exif = 0, False, False, False, None
    position, blocks = 8, 0
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        body = position + 8
        if kind == b"IEND":
            complete = True
            break
        if kind == b"acTL" and length >= 8:
            frames = int.from_bytes(data[body : body + 4], "big")
        elif kind == b"fcTL" and not pixels:
            shown = True
        elif kind == b"IDAT":
            pixels = True
        elif kind == b"eXIf":
            exif = data[body : body + length]
        position = body + length + 4
        blocks += 1
        if blocks > limits.max_blocks:
            raise BadImage(TOO_MANY_BLOCKS)
    # The default picture is a frame only if fcTL comes before it. It is what is decoded, as by viewers of plain PNG.
    animated = frames + (not shown) > 1 and frames > 0
    return Header("png", width, height, exif, animated=animated, complete=complete)


def pixel_chunks(data: bytes) -> bytes:
    """The same image without the chunks that do not affect pixels: profiles, texts, EXIF, animation.

    Pillow would decompress them, a kilobyte to a megabyte, and limits only some.
    """
    view = memoryview(data)
    chunks = [view[:8]]
    position = 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind in _PIXEL_CHUNKS:
            chunks.append(view[position:end])
        if kind == b"IEND":
            break
        position = end
    return b"".join(chunks)


def scale_transparency(image: PngImagePlugin.PngImageFile) -> None:
    """Scale the transparent colour of tRNS, in place, to the 8 bits of Pillow's pixels."""
    clear = image.info.get("transparency")
    if clear is None or not image.tile:
        return
    rawmode = image.tile[0].args
    if isinstance(clear, int) and isinstance(rawmode, str):
        image.info["transparency"] = clear * _GREY_FACTORS.get(rawmode, 1)
    elif isinstance(clear, tuple) and rawmode == "RGB;16B":
        image.info["transparency"] = tuple(sample >> 8 for sample in clear)
