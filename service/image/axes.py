"""One axis of "resize, then crop": which pixels come out, which go in, and Pillow's own arithmetic for them.

``transform`` asks where the crop lies (``Axis``) and, for very long axes, has it computed here (``resample``)
without the rest of the resized image. Pillow resamples 8-bit images separably: weights in float64, normalised to
sum 1, rounded to 22-bit fixed point; products summed as integers; each pass rounded to uint8 before the next
(``src/libImaging/Resample.c``). The same steps give the same bits, which tests check against Pillow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["bilinear", "bicubic"]

UInt8 = NDArray[np.uint8]
Float64 = NDArray[np.float64]

#: Radius of each filter, in pixels of the smaller of the two images.
_RADIUS: Final[dict[Interpolation, float]] = {"bilinear": 1.0, "bicubic": 2.0}
_PRECISION_BITS: Final = 32 - 8 - 2


@dataclass(frozen=True, slots=True)
class Axis:
    """``source`` pixels resized to ``resized``, of which ``size`` are wanted from ``offset`` on."""

    source: int
    resized: int
    offset: int
    size: int
    #: Black pixels before them in the output: the crop is larger than the resized image.
    padding: int

    @classmethod
    def centred(cls, source: int, resized: int, crop: int) -> Axis:
        """torchvision's ``center_crop``: an odd remainder is rounded half to even, or padded less on the left."""
        if crop > resized:
            return cls(source, resized, 0, resized, (crop - resized) // 2)
        return cls(source, resized, round((resized - crop) / 2.0), crop, 0)

    def support(self, interpolation: Interpolation) -> tuple[int, int]:
        """A half-open interval of source pixels that holds every one the wanted pixels depend on."""
        scale = self.source / self.resized
        radius = _RADIUS[interpolation] * max(scale, 1.0)
        # Two pixels more than Pillow's own rounding can reach.
        first = int((self.offset + 0.5) * scale - radius) - 2
        last = int((self.offset + self.size - 0.5) * scale + radius) + 3
        return max(0, first), min(self.source, last)


def resample(pixels: UInt8, along: Literal[0, 1], axis: Axis, first: int, interpolation: Interpolation) -> UInt8:
    """The wanted pixels of ``axis``, as Pillow's pass over the whole axis would give them.

    ``pixels`` is (h, w, 3) and holds, ``along`` its axis, the source from index ``first`` on, at least
    ``axis.support``. Returns the same shape with ``axis.size`` pixels along that axis.
    """
    starts, weights = _weights(axis, interpolation)
    source = np.moveaxis(pixels, along, 0)
    # The sum of 255 × weights stays below 2³¹ by the choice of the precision, here as in Pillow.
    total = np.full((axis.size, *source.shape[1:]), 1 << (_PRECISION_BITS - 1), dtype=np.int32)
    last = source.shape[0] - 1
    for tap in range(weights.shape[1]):
        # Beyond the support the weight is 0, so the clamped pixel does not count.
        rows = np.minimum(starts - first + tap, last)
        total += source[rows] * weights[:, tap, None, None]
    result = np.clip(total >> _PRECISION_BITS, 0, 255).astype(np.uint8)
    return np.moveaxis(result, 0, along)


def _weights(axis: Axis, interpolation: Interpolation) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """First source index (size,) and fixed-point weights (size, taps) of each wanted pixel."""
    scale = axis.source / axis.resized
    stretch = max(scale, 1.0)
    radius = _RADIUS[interpolation] * stretch
    centres = (np.arange(axis.offset, axis.offset + axis.size) + 0.5) * scale
    starts = np.maximum((centres - radius + 0.5).astype(np.int64), 0)
    counts = np.minimum((centres + radius + 0.5).astype(np.int64), axis.source) - starts
    taps = np.arange(int(counts.max()))
    filtered = _filter((starts[:, None] + taps - centres[:, None] + 0.5) * (1.0 / stretch), interpolation)
    filtered[taps >= counts[:, None]] = 0.0
    # In the order of a loop: numpy's own sum adds pairwise, which can differ in the last bit.
    norms = np.cumsum(filtered, axis=1)[:, -1:]
    weights = filtered / norms * (1 << _PRECISION_BITS)
    return starts, np.trunc(weights + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)


def _filter(x: Float64, interpolation: Interpolation) -> Float64:
    x = np.abs(x)
    if interpolation == "bilinear":
        return np.where(x < 1.0, 1.0 - x, 0.0)
    a = -0.5  # Keys' cubic convolution
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
