"""TIFF pages of every kind of pixels, from arrays of samples, and the RGB that they mean."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.hostile.images import tiff_writer as t
from tests.hostile.images.tiff_writer import Tag, longs, shorts

Samples = NDArray[np.int64]

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK, LAB = 0, 1, 2, 5, 8
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, CMYK: 4, LAB: 3}
UNSPECIFIED, PREMULTIPLIED, ALPHA = 0, 1, 2
_FILL_ORDER = 266
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def page(
    samples: Samples,
    bits: int,
    photometric: int,
    *more: Tag,
    order: str = "<",
    big: bool = False,
    deflate: bool = False,
    predictor: bool = False,
    planar: bool = False,
    tile: int = 0,
    reverse: bool = False,
) -> bytes:
    """A TIFF of (height, width, channels) ``samples``, in strips of 16 rows or in tiles.

    ``reverse``: the bits in each byte.
    """
    height, width, channels = samples.shape
    blocks = []
    for plane in np.split(samples, channels, axis=2) if planar else [samples]:
        for part in _tiles(plane, tile) if tile else [plane[top : top + 16] for top in range(0, height, 16)]:
            stored = np.diff(part, axis=1, prepend=0) % 2**bits if predictor else part
            block = _packed(stored, bits, order)
            if reverse:
                block = block.translate(_REVERSED)
            blocks.append(zlib.compress(block) if deflate else block)
    tags = [longs(t.WIDTH, width), longs(t.HEIGHT, height), shorts(t.BITS, *[bits] * channels)]
    tags += [shorts(t.SAMPLES, channels), shorts(t.PHOTOMETRIC, photometric), shorts(t.PLANAR, 1 + planar)]
    tags += [shorts(t.COMPRESSION, t.DEFLATE if deflate else t.NONE), shorts(t.PREDICTOR, 1 + predictor)]
    tags += [shorts(_FILL_ORDER, 1 + reverse)]
    tags += [longs(t.TILE_WIDTH, tile), longs(t.TILE_HEIGHT, tile)] if tile else [longs(t.ROWS_PER_STRIP, 16)]
    return t.tiff(blocks, [*tags, *more], order=order, big=big, tiled=bool(tile))


def _tiles(plane: Samples, tile: int) -> list[Samples]:
    height, width, _ = plane.shape
    padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
    lefts = range(0, width, tile)
    return [padded[top : top + tile, left : left + tile] for top in range(0, height, tile) for left in lefts]


def _packed(samples: Samples, bits: int, order: str) -> bytes:
    """Rows begin at a byte. Samples of 8, 16 and 32 bits have the file's byte order; others, their upper bit first."""
    if bits % 8 == 0:
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    planes = (samples[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def on_white(samples: Samples, bits: int, photometric: int, extra: int = UNSPECIFIED) -> NDArray[Any]:
    """(height, width, 3) floats: what the samples mean; ``extra``: of the first channel that is no colour.

    Premultiplied ink is ink on white paper already.
    """
    levels = (samples >> (bits - 8) if bits > 8 else samples * (255 // (2**bits - 1))).astype(float)
    colours = levels[..., : COLOURS[photometric]]
    if photometric == CMYK:
        colours = (255 - colours[..., :3]) * (255 - colours[..., 3:]) / 255
    elif photometric == WHITE_IS_ZERO:
        colours = 255 - colours
    alpha = levels[..., COLOURS[photometric], None] / 255 if extra else np.array(1.0)
    if extra == ALPHA:
        colours = colours * alpha + 255 * (1 - alpha)
    elif extra == PREMULTIPLIED and photometric in (BLACK_IS_ZERO, RGB):
        colours = colours + 255 * (1 - alpha)
    return np.broadcast_to(colours, (*samples.shape[:2], 3))
