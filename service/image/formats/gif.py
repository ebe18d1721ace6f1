"""GIF: the header for ``inspection``; the first frame on its screen, for ``decode``.

Layout: GIF89a, appendix B. Pillow reads the blocks before the first frame one by one, in Python, and fails at an empty
one; so it gets only the block with the transparent colour.
"""

from __future__ import annotations

import io
import struct
from typing import Final

from PIL import GifImagePlugin, Image

from service.errors import BadImage
from service.image.header import TOO_MANY_BLOCKS, TRUNCATED, Header, Limits

_EXTENSION, _FRAME, _END, _CONTROL = 0x21, 0x2C, 0x3B, 0xF9
_HEADER: Final = 13
_DESCRIPTOR: Final = 10


def inspect_gif(data: bytes, limits: Limits) -> Header:
    """The size of the screen, enlarged as by Pillow to contain the first frame; whether there is a second frame."""
    if len(data) < _HEADER:
        raise BadImage(TRUNCATED)
    width, height = struct.unpack_from("<HH", data, 6)
    blocks = _Blocks(data, limits.max_blocks)
    frame = blocks.next_frame()
    if frame is None:
        return Header("gif", width, height)
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, frame + 1)
    blocks.skip_frame(frame)
    animated = blocks.next_frame() is not None
    return Header("gif", max(width, left + frame_width), max(height, top + frame_height), animated=animated)


def decode_gif(data: bytes, header: Header, limits: Limits) -> Image.Image:
    """The first frame; where it leaves the screen uncovered, transparency, as browsers show it.

    Pillow would fill the rest of the screen with a colour of the palette.
    """
    frame, corner = first_frame(data, limits)
    image = GifImagePlugin.GifImageFile(io.BytesIO(frame))
    image.load()
    if image.size == (header.width, header.height):
        return image
    screen = Image.new("RGBA", (header.width, header.height))
    screen.paste(image.convert("RGBA"), corner)
    return screen


def first_frame(data: bytes, limits: Limits) -> tuple[bytes, tuple[int, int]]:
    """A file whose first frame directly follows the palette and fills the screen; where the frame's corner was.

    ``inspect_gif`` must have accepted ``data``.
    """
    blocks = _Blocks(data, limits.max_blocks)
    start = blocks.position
    frame = blocks.next_frame()
    if frame is None:
        return data, (0, 0)
    view = memoryview(data)
    size = view[frame + 5 : frame + 9]
    parts = (view[:6], size, view[10:start], blocks.transparency, b",\0\0\0\0", view[frame + 5 :])
    return b"".join(parts), struct.unpack_from("<HH", data, frame + 1)


class _Blocks:
    """Steps from frame to frame; BadImage after ``budget`` blocks."""

    def __init__(self, data: bytes, budget: int) -> None:
        self._data = data
        self._budget = budget
        self.position = _HEADER + _palette(data[10])
        #: A control block with only the transparent colour; empty if there is none.
        self.transparency = b""

    def next_frame(self) -> int | None:
        """Position of the next complete image descriptor; None if there is none."""
        data = self._data
        while self.position < len(data) and data[self.position] != _END:
            if data[self.position] == _FRAME and self.position + _DESCRIPTOR <= len(data):
                return self.position
            if data[self.position] == _EXTENSION:
                block = data[self.position + 1 : self.position + 7]
                if len(block) == 6 and block[0] == _CONTROL and block[1] >= 4:
                    self.transparency = bytes((_EXTENSION, _CONTROL, 4, block[2] & 1, 0, 0, block[5], 0))
                self._skip_blocks(self.position + 2)
            else:
                self.position += 1
                self._spend()
        return None

    def skip_frame(self, frame: int) -> None:
        self._skip_blocks(frame + _DESCRIPTOR + _palette(self._data[frame + 9]) + 1)

    def _skip_blocks(self, position: int) -> None:
        data, blocks = self._data, 0
        while position < len(data):
            length = data[position]
            position += 1 + length
            blocks += 1
            if length == 0 or blocks > self._budget:
                break
        self.position = position
        self._spend(blocks)

    def _spend(self, blocks: int = 1) -> None:
        self._budget -= blocks
        if self._budget < 0:
            raise BadImage(TOO_MANY_BLOCKS)


def _palette(flags: int) -> int:
    """Size in bytes of the palette that ``flags`` declare."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
