"""Image bytes to the uint8 array a runtime takes.

Two steps, so that the request can be admitted by its size before any work is done: ``inspect`` reads the header,
``prepare`` decodes. Reading order: ``pipeline``, ``inspection``, ``decode``, ``canonical``, ``transform``.
"""

from __future__ import annotations

from service.image.header import Format, Header, Limits
from service.image.inspection import inspect
from service.image.pipeline import (
    WARN_EXIF,
    WARN_FRAMES,
    Mode,
    Prepared,
    prepare,
    squared,
    upright,
    warn_orientation,
)
from service.image.transform import CropBox, Pixels, Transform, crop_box

__all__ = [
    "WARN_EXIF",
    "WARN_FRAMES",
    "CropBox",
    "Format",
    "Header",
    "Limits",
    "Mode",
    "Pixels",
    "Prepared",
    "Transform",
    "crop_box",
    "inspect",
    "prepare",
    "squared",
    "upright",
    "warn_orientation",
]
