"""PNG files from samples, chunk by chunk: every depth and colour type, interlaced or not, and with lies where wanted.

PNG specification, third edition; Adam7 is its section 8.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Chunks = Iterable[bytes]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6

#: Where the first chunk behind the header is.
BODY = 33

#: First column and row, and step between columns and rows, of each pass.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width: int, height: int, bits: int, colour: int, interlaced: bool = False) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))


def assembled(head: bytes, *pixels: bytes, before: Chunks = (), after: Chunks = ()) -> bytes:
    """A PNG of compressed ``pixels``, a chunk each, with chunks ``before`` and ``after`` them."""
    return b"".join((SIGNATURE, head, *before, *(chunk(b"IDAT", part) for part in pixels), *after, chunk(b"IEND")))


def rows(samples: NDArray[Any], bits: int, interlaced: bool = False) -> bytes:
    """(h, w) or (h, w, channels) samples of ``bits`` bits as filtered rows, before they are compressed."""
    samples = samples.reshape(*samples.shape[:2], -1)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    return b"".join(_pack(samples[y::down, x::across], bits) for x, y, across, down in passes)


def _pack(samples: NDArray[Any], bits: int) -> bytes:
    if samples.size == 0:
        return b""
    flat = samples.reshape(len(samples), -1)
    if bits == 16:
        packed = flat.astype(">u2").view(np.uint8)
    elif bits == 8:
        packed = flat.astype(np.uint8)
    else:
        single = flat.astype(np.uint8)[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint8) & 1
        packed = np.packbits(single.reshape(len(samples), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def write(
    samples: NDArray[Any], bits: int, colour: int, *, interlaced: bool = False, **chunks: Iterable[bytes]
) -> bytes:
    """A PNG of ``samples``; ``chunks`` are those of ``assembled``."""
    height, width = samples.shape[:2]
    head = header(width, height, bits, colour, interlaced)
    return assembled(head, zlib.compress(rows(samples, bits, interlaced)), **chunks)
