"""Draws a class activation map over its photo, as a PNG.

photo (reduced, upright) + crop box + map (S, S) ─► dimmed outside the crop, coloured inside by the map ─► PNG

The page draws in the same way (``http/page``).
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from service.image import CropBox
from service.model.outputs import ClassMap, Float32

DEFAULT_OPACITY = 0.6

#: Colours at t = 0, 1/4, 1/2, 3/4, 1: dark and cold to light and warm, in even steps of lightness.
_RAMP: Final = ((59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))
#: Brightness outside the crop, which the network does not see.
_DIMMED: Final = 0.45
#: Tolerance for a float that stands for a whole number of pixels.
_ROUNDING: Final = 1e-6

_LEVELS: Final = np.arange(256)
_COLOURS: Final = [
    np.interp(_LEVELS / 255, np.linspace(0, 1, len(_RAMP)), stops).round().astype(int).tolist()
    for stops in zip(*_RAMP, strict=True)
]
_DIM: Final = (_LEVELS * _DIMMED).astype(int).tolist() * 3


def relief(values: Float32) -> NDArray[np.uint8]:
    """A map (S, S) as levels: 0 for no or negative evidence, 255 for the maximum of this map."""
    peak = float(values.max())
    if peak <= 0:
        return np.zeros(values.shape, np.uint8)
    levels: NDArray[np.uint8] = np.rint(np.clip(values / peak, 0, 1) * 255).astype(np.uint8)
    return levels


def caption(class_map: ClassMap) -> str:
    """The description in the PNG."""
    return (
        f"class {class_map.index}, {class_map.label}: "
        f"logit {class_map.logit:.4f}, probability {class_map.probability:.4f}"
    )


def draw(photo: Image.Image, crop: CropBox, class_map: ClassMap, *, opacity: float) -> bytes:
    """PNG of ``photo`` (mode RGB) under ``class_map``; ``crop`` is in pixels of ``photo``.

    Where the map is t times its maximum, the colour of t covers the photo with an opacity of ``opacity * t``.
    """
    box = _whole_pixels(crop, photo.size)
    levels = _enlarged(Image.fromarray(relief(class_map.map)), crop, box)
    colours = Image.merge("RGB", [levels.point(channel) for channel in _COLOURS])
    inside = photo.crop(box)
    inside.paste(colours, (0, 0), levels.point([round(opacity * level) for level in range(256)]))
    drawing = photo.point(_DIM)
    drawing.paste(inside, box[:2])
    return _png(drawing, caption(class_map))


def _whole_pixels(crop: CropBox, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the photo's pixels that the crop touches, even in part: in a photo one pixel wide the
    crop is narrower than a pixel."""
    (left, right), (top, bottom) = (
        (max(0, math.floor(start + _ROUNDING)), min(length, math.ceil(start + extent - _ROUNDING)))
        for start, extent, length in ((crop.x, crop.width, size[0]), (crop.y, crop.height, size[1]))
    )
    return left, top, right, bottom


def _enlarged(levels: Image.Image, crop: CropBox, box: Sequence[int]) -> Image.Image:
    """The part of the map over ``box`` of the photo, enlarged to its size."""
    side = levels.width
    left, top, right, bottom = box

    def cell(pixel: int, start: float, extent: float) -> float:
        return min(max((pixel - start) / extent * side, 0.0), float(side))  # the box may extend beyond the crop

    first_column, last_column = (cell(pixel, crop.x, crop.width) for pixel in (left, right))
    first_row, last_row = (cell(pixel, crop.y, crop.height) for pixel in (top, bottom))
    cells = (first_column, first_row, last_column, last_row)
    return levels.resize((right - left, bottom - top), Image.Resampling.BICUBIC, box=cells)


def _png(drawing: Image.Image, description: str) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Description", description)
    buffer = io.BytesIO()
    # Photos hardly compress: searching for matches other than runs doubles the time and saves nothing.
    drawing.save(buffer, "PNG", compress_type=zlib.Z_RLE, pnginfo=text)
    return buffer.getvalue()
