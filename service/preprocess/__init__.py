"""Image bytes to the uint8 array a runtime takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Transform:
    """Resize the shorter side to ``resize_size``, then crop ``crop_size`` × ``crop_size`` from the centre."""

    resize_size: int
    crop_size: int
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
