"""Image bytes to the uint8 array a runtime takes.

Two steps, so that the request can be admitted by its size before any work is done: ``inspect`` reads the header,
``prepare`` decodes. Reading order: ``pipeline``, ``headers``, ``decode``, ``canonical``, ``transform``.
"""

from __future__ import annotations

from service.preprocess.facts import SUFFIXES, Format, Header
from service.preprocess.headers import inspect
from service.preprocess.limits import Limits
from service.preprocess.pipeline import (
    PREVIEW_SIDE,
    WARN_EXIF,
    WARN_FRAMES,
    Mode,
    Prepared,
    Preview,
    prepare,
    warn_orientation,
)
from service.preprocess.transform import CropBox, Transform, crop_box

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
    "Prepared",
    "Preview",
    "Transform",
    "crop_box",
    "inspect",
    "prepare",
    "warn_orientation",
]
