"""Canonical image (upright RGB, any size) to the square that a runtime takes, bit-equal to torchvision.

The reference is torchvision's ``ImageClassification`` preset on the same PIL image: resize the shorter side, the
longer one to ``int(resize_size * long / short)``, then ``center_crop``. Pillow resizes in two passes, one an axis,
and a pass only reads what the one before it wrote; so each pass is run on its own, on no more than the crop needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.image.axes import Axis, Interpolation, resample

_FILTERS: Final[dict[Interpolation, Image.Resampling]] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
#: Long side over short side from which the long axis is computed in numpy, for the crop alone.
_THIN: Final = 4
#: Above this many source pixels, copying the needed part costs more (page faults) than the pass saves.
_COPY_PIXELS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Transform:
    """Resize the shorter side to ``resize_size``, then crop ``crop_size`` × ``crop_size`` from the centre."""

    resize_size: int
    crop_size: int
    interpolation: Interpolation = "bilinear"


class CropBox(NamedTuple):
    """A part of a photo, in its pixels; where the crop is larger than the resized photo, it reaches beyond it."""

    x: float
    y: float
    width: float
    height: float


def resize_and_crop(image: Image.Image, transform: Transform) -> NDArray[np.uint8]:
    """``image`` in mode RGB to uint8 (crop, crop, 3), C-contiguous and read-only; black where the crop is larger."""
    x, y = _axes(image.size, transform)
    passes = (x, y) if _horizontal_first(x, y) else (y, x)
    if max(image.size) >= _THIN * min(image.size):
        pixels = _thin(image, x, passes, transform.interpolation)
    else:
        pixels = np.asarray(_regular(image, x, passes, transform.interpolation))
    if pixels.shape[:2] == (transform.crop_size, transform.crop_size):
        return pixels
    square = np.zeros((transform.crop_size, transform.crop_size, 3), np.uint8)
    square[y.padding : y.padding + y.size, x.padding : x.padding + x.size] = pixels
    square.flags.writeable = False
    return square


def crop_box(size: tuple[int, int], transform: Transform) -> CropBox:
    """What of an upright photo of ``size`` (width, height) the square shows."""
    (left, width), (top, height) = (
        ((axis.offset - axis.padding) * scale, transform.crop_size * scale)
        for axis, scale in ((axis, axis.source / axis.resized) for axis in _axes(size, transform))
    )
    return CropBox(left, top, width, height)


def _axes(size: tuple[int, int], transform: Transform) -> tuple[Axis, Axis]:
    width, height = size
    long = int(transform.resize_size * max(size) / min(size))
    new_width, new_height = (transform.resize_size, long) if width <= height else (long, transform.resize_size)
    return (
        Axis.centred(width, new_width, transform.crop_size),
        Axis.centred(height, new_height, transform.crop_size),
    )


def _regular(image: Image.Image, x: Axis, passes: tuple[Axis, Axis], interpolation: Interpolation) -> Image.Image:
    first, second = passes
    along_x = second is x
    if image.width * image.height > _COPY_PIXELS:
        return _pass(_pass(image, first, not along_x, interpolation), second, along_x, interpolation)
    # The first pass skips what the second will not read; black stands for it, so that positions do not change.
    start, stop = second.support(interpolation)
    needed = _pass(_crop(image, along_x, start, stop), first, not along_x, interpolation)
    return _pass(_crop(needed, along_x, -start, second.source - start), second, along_x, interpolation)


def _thin(image: Image.Image, x: Axis, passes: tuple[Axis, Axis], interpolation: Interpolation) -> NDArray[np.uint8]:
    long = max(passes, key=lambda axis: axis.source)
    short_along_x = long is not x
    start, stop = long.support(interpolation)
    image = _crop(image, long is x, start, stop)
    along: Literal[0, 1] = 1 if long is x else 0
    if passes[0] is long:
        strip = resample(np.asarray(image), along, long, start, interpolation)
        short = passes[1]
        return np.asarray(_pass(Image.fromarray(strip), short, short_along_x, interpolation))
    image = _pass(image, passes[0], short_along_x, interpolation)
    pixels = np.ascontiguousarray(resample(np.asarray(image), along, long, start, interpolation))
    pixels.flags.writeable = False
    return pixels


def _pass(image: Image.Image, axis: Axis, along_x: bool, interpolation: Interpolation) -> Image.Image:
    size = (axis.resized, image.height) if along_x else (image.width, axis.resized)
    return _crop(image.resize(size, _FILTERS[interpolation]), along_x, axis.offset, axis.offset + axis.size)


def _crop(image: Image.Image, along_x: bool, start: int, stop: int) -> Image.Image:
    if start == 0 and stop == (image.width if along_x else image.height):
        return image
    return image.crop((start, 0, stop, image.height) if along_x else (0, start, image.width, stop))


def _horizontal_first(x: Axis, y: Axis) -> bool:
    """The order of Pillow's passes, which shows in the pixels: the first one rounds before the second."""
    shrinks = y.source - y.resized
    return not (_may_begin_vertically() and shrinks > 0 and shrinks > 2 * (x.source - x.resized))


@cache
def _may_begin_vertically() -> bool:
    """Pillow 13 runs the vertical pass first where the height shrinks by over twice as many pixels; 12 never does.

    Asked of Pillow itself, by a resize whose two orders round differently.
    """
    noise = np.arange(3 * 8 * 40, dtype=np.uint32) * 2654435761 >> 24 & 0xFF
    image = Image.fromarray(noise.astype(np.uint8).reshape(40, 8, 3))
    bilinear = Image.Resampling.BILINEAR
    whole = image.resize((7, 10), bilinear)
    return whole.tobytes() == image.resize((8, 10), bilinear).resize((7, 10), bilinear).tobytes()
