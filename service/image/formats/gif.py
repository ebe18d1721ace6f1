"""GIF blocks, read for ``inspection``; and, for ``decode``, the first frame without what surrounds it.

Layout: GIF89a, appendix B. Pillow walks the blocks before the first frame one by one, in Python, and loses its way at
an empty one; so it gets none but the one that says which colour is transparent.
"""

from __future__ import annotations

import struct
from typing import Final

from service.errors import BadImage
from service.image.header import TOO_MANY_BLOCKS, TRUNCATED, Header, Limits

_EXTENSION, _FRAME, _END, _CONTROL = 0x21, 0x2C, 0x3B, 0xF9
_HEADER: Final = 13
_DESCRIPTOR: Final = 10


def inspect_gif(data: bytes, limits: Limits) -> Header:
    """The size of the screen, widened like Pillow's to hold the first frame, and whether there is a second frame."""
    if len(data) < _HEADER:
        raise BadImage(TRUNCATED)
    width, height = struct.unpack_from("<HH", data, 6)
    walk = _Walk(data, limits.max_blocks)
    frame = walk.next_frame()
    if frame is None:
        return Header("gif", width, height)
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, frame + 1)
    walk.skip_frame(frame)
    animated = walk.next_frame() is not None
    return Header("gif", max(width, left + frame_width), max(height, top + frame_height), animated=animated)


def first_frame(data: bytes, limits: Limits) -> bytes:
    """A file in which the first frame follows the palette at once. ``data`` is one that ``inspect_gif`` accepts."""
    walk = _Walk(data, limits.max_blocks)
    start = walk.position
    frame = walk.next_frame()
    if frame is None:
        return data
    view = memoryview(data)
    return b"".join((view[:start], walk.transparency, view[frame:]))


class _Walk:
    """Goes from frame to frame; BadImage after ``budget`` blocks."""

    def __init__(self, data: bytes, budget: int) -> None:
        self._data = data
        self._budget = budget
        self.position = _HEADER + _palette(data[10])
        #: A control block that says which colour is transparent, and nothing else; empty if there is none.
        self.transparency = b""

    def next_frame(self) -> int | None:
        """Where the next image descriptor is; None if there is no whole one."""
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
                self._pay()
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
        self._pay(blocks)

    def _pay(self, blocks: int = 1) -> None:
        self._budget -= blocks
        if self._budget < 0:
            raise BadImage(TOO_MANY_BLOCKS)


def _palette(flags: int) -> int:
    """Bytes of the palette that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
