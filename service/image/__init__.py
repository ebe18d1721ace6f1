"""Image bytes to the uint8 array a runtime takes.

Two steps, so that the request can be admitted by its size before any work is done: ``inspect`` reads the header,
``prepare`` decodes. Reading order: ``pipeline``, ``inspection``, ``decode``, ``canonical``, ``transform``.
"""

from __future__ import annotations

from service.image.header import SUFFIXES, Format, Header, Limits
from service.image.inspection import inspect
from service.image.pipeline import (
    PREVIEW_SIDE,
    WARN_EXIF,
    WARN_FRAMES,
    Mode,
    Prepared,
    Preview,
    prepare,
    warn_orientation,
)
from service.image.transform import CropBox, Pixels, Transform, crop_box

__all__ = [
    "PREVIEW_SIDE",
    "SUFFIXES",
    "WARN_EXIF",
    "WARN_FRAMES",
    "CropBox",
    "Format",
    "Header",
    "Limits",
    "Mode",
    "Pixels",
    "Prepared",
    "Preview",
    "Transform",
    "crop_box",
    "inspect",
    "prepare",
    "warn_orientation",
]
