"""Converts a canonical image (upright RGB, any size) to the square that a runtime takes, bit-equal to torchvision.

The reference is torchvision's ``presets.ImageClassification`` on the same PIL image: resize the shorter side to
``resize_size``, the longer one to ``int(resize_size * long / short)``, then ``F.center_crop``. Pillow resizes in two
passes, one per axis. Here each pass is run separately, on only the pixels that the crop needs.

The long axis of a thin image is resampled in numpy (``_resample``), for the crop only, with the steps of Pillow
(``src/libImaging/Resample.c``), so that it gives the same bits: weights in float64, normalised to sum 1, rounded to
22-bit fixed point; products summed as integers; each pass rounded to uint8. Tests compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Interpolation = Literal["bilinear", "bicubic"]

#: (height, width, 3) RGB
Pixels = NDArray[np.uint8]

#: Radius of each filter, in pixels of the smaller image.
_RADIUS: Final[dict[Interpolation, float]] = {"bilinear": 1.0, "bicubic": 2.0}
_PRECISION_BITS: Final = 32 - 8 - 2
_FILTERS: Final[dict[Interpolation, Image.Resampling]] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
#: An image whose sides have at least this ratio is thin.
_THIN: Final = 4
#: Above this many source pixels, copying the needed part takes longer (page faults) than it saves.
_COPY_PIXELS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Transform:
    """Resize the shorter side to ``resize_size``, then crop ``crop_size`` × ``crop_size`` from the centre."""

    resize_size: int
    crop_size: int
    interpolation: Interpolation = "bilinear"


class CropBox(NamedTuple):
    """A part of a photo, in its pixels. It extends beyond the photo if the crop is larger than the resized photo."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: ``source`` pixels are resized to ``resized``; the crop is ``size`` of these from ``offset`` on."""

    source: int
    resized: int
    offset: int
    size: int
    #: Black pixels before them in the output, if the crop is larger than the resized image.
    padding: int

    @classmethod
    def centred(cls, source: int, resized: int, crop: int) -> _Axis:
        """torchvision's ``F.center_crop``: an odd remainder is rounded half to even, or padded less on the left."""
        if crop > resized:
            return cls(source, resized, 0, resized, (crop - resized) // 2)
        return cls(source, resized, round((resized - crop) / 2.0), crop, 0)

    def support(self, interpolation: Interpolation) -> tuple[int, int]:
        """A half-open interval that contains all source pixels on which the crop depends."""
        scale = self.source / self.resized
        radius = _RADIUS[interpolation] * max(scale, 1.0)
        # Two pixels more than Pillow's rounding requires.
        first = int((self.offset + 0.5) * scale - radius) - 2
        last = int((self.offset + self.size - 0.5) * scale + radius) + 3
        return max(0, first), min(self.source, last)


def resize_and_crop(image: Image.Image, transform: Transform) -> Pixels:
    """``image`` in mode RGB to uint8 (crop, crop, 3), C-contiguous and read-only; black outside the resized image."""
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
    """The part of an upright photo of ``size`` (width, height) that becomes the square."""
    (left, width), (top, height) = (
        ((axis.offset - axis.padding) * scale, transform.crop_size * scale)
        for axis, scale in ((axis, axis.source / axis.resized) for axis in _axes(size, transform))
    )
    return CropBox(left, top, width, height)


def _axes(size: tuple[int, int], transform: Transform) -> tuple[_Axis, _Axis]:
    width, height = size
    long = int(transform.resize_size * max(size) / min(size))
    new_width, new_height = (transform.resize_size, long) if width <= height else (long, transform.resize_size)
    crop = transform.crop_size
    return _Axis.centred(width, new_width, crop), _Axis.centred(height, new_height, crop)


def _regular(image: Image.Image, x: _Axis, passes: tuple[_Axis, _Axis], interpolation: Interpolation) -> Image.Image:
    first, second = passes
    along_x = second is x
    if image.width * image.height > _COPY_PIXELS:
        return _pass(_pass(image, first, not along_x, interpolation), second, along_x, interpolation)
    # The first pass skips rows or columns that the second does not read; black ones replace them to keep positions.
    start, stop = second.support(interpolation)
    needed = _pass(_crop(image, along_x, start, stop), first, not along_x, interpolation)
    return _pass(_crop(needed, along_x, -start, second.source - start), second, along_x, interpolation)


def _thin(image: Image.Image, x: _Axis, passes: tuple[_Axis, _Axis], interpolation: Interpolation) -> Pixels:
    long = max(passes, key=lambda axis: axis.source)
    short_along_x = long is not x
    start, stop = long.support(interpolation)
    image = _crop(image, long is x, start, stop)
    along: Literal[0, 1] = 1 if long is x else 0
    if passes[0] is long:
        strip = _resample(np.asarray(image), along, long, start, interpolation)
        short = passes[1]
        return np.asarray(_pass(Image.fromarray(strip), short, short_along_x, interpolation))
    image = _pass(image, passes[0], short_along_x, interpolation)
    pixels = np.ascontiguousarray(_resample(np.asarray(image), along, long, start, interpolation))
    pixels.flags.writeable = False
    return pixels


def _pass(image: Image.Image, axis: _Axis, along_x: bool, interpolation: Interpolation) -> Image.Image:
    size = (axis.resized, image.height) if along_x else (image.width, axis.resized)
    return _crop(image.resize(size, _FILTERS[interpolation]), along_x, axis.offset, axis.offset + axis.size)


def _crop(image: Image.Image, along_x: bool, start: int, stop: int) -> Image.Image:
    if start == 0 and stop == (image.width if along_x else image.height):
        return image
    return image.crop((start, 0, stop, image.height) if along_x else (0, start, image.width, stop))


def _horizontal_first(x: _Axis, y: _Axis) -> bool:
    """The order of Pillow's passes, which affects the pixels because the first pass rounds."""
    shrinks = y.source - y.resized
    return not (_may_begin_vertically() and shrinks > 0 and shrinks > 2 * (x.source - x.resized))


@cache
def _may_begin_vertically() -> bool:
    """Whether Pillow runs the vertical pass first if the height shrinks by more than twice as many pixels.

    Version 13 does, 12 never does; determined by a resize whose two orders round differently.
    """
    noise = np.arange(3 * 8 * 40, dtype=np.uint32) * 2654435761 >> 24 & 0xFF
    image = Image.fromarray(noise.astype(np.uint8).reshape(40, 8, 3))
    bilinear = Image.Resampling.BILINEAR
    whole = image.resize((7, 10), bilinear)
    return whole.tobytes() == image.resize((8, 10), bilinear).resize((7, 10), bilinear).tobytes()


def _resample(pixels: Pixels, along: Literal[0, 1], axis: _Axis, first: int, interpolation: Interpolation) -> Pixels:
    """The crop's pixels along ``axis``, equal to those of Pillow's pass over the whole axis.

    ``pixels`` is (h, w, 3) and contains the source from index ``first`` on in dimension ``along``, at least
    ``axis.support``. Returns the same shape with ``axis.size`` pixels in that dimension.
    """
    starts, weights = _weights(axis, interpolation)
    source = np.moveaxis(pixels, along, 0)
    # As in Pillow, the precision is chosen so that the sum of 255 × weights stays below 2³¹.
    total = np.full((axis.size, *source.shape[1:]), 1 << (_PRECISION_BITS - 1), dtype=np.int32)
    last = source.shape[0] - 1
    for tap in range(weights.shape[1]):
        # Outside the support the weight is 0, so clamping has no effect.
        rows = np.minimum(starts - first + tap, last)
        total += source[rows] * weights[:, tap, None, None]
    result = np.clip(total >> _PRECISION_BITS, 0, 255).astype(np.uint8)
    return np.moveaxis(result, 0, along)


def _weights(axis: _Axis, interpolation: Interpolation) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """First source index (size,) and fixed-point weights (size, taps) for each pixel of the crop."""
    scale = axis.source / axis.resized
    stretch = max(scale, 1.0)
    radius = _RADIUS[interpolation] * stretch
    centres = (np.arange(axis.offset, axis.offset + axis.size) + 0.5) * scale
    starts = np.maximum((centres - radius + 0.5).astype(np.int64), 0)
    counts = np.minimum((centres + radius + 0.5).astype(np.int64), axis.source) - starts
    taps = np.arange(int(counts.max()))
    filtered = _filter((starts[:, None] + taps - centres[:, None] + 0.5) * (1.0 / stretch), interpolation)
    filtered[taps >= counts[:, None]] = 0.0
    # Summed in order as in Pillow: numpy's sum adds pairwise, which can differ in the last bit.
    norms = np.cumsum(filtered, axis=1)[:, -1:]
    weights = filtered / norms * (1 << _PRECISION_BITS)
    return starts, np.trunc(weights + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)


def _filter(x: NDArray[np.float64], interpolation: Interpolation) -> NDArray[np.float64]:
    x = np.abs(x)
    if interpolation == "bilinear":
        return np.where(x < 1.0, 1.0 - x, 0.0)
    a = -0.5  # Keys' cubic convolution
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
