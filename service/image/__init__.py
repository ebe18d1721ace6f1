"""Image bytes to the uint8 array a runtime takes.

Two steps, so that the request can be admitted by its size before any work is done: ``inspect`` reads the header,
``preprocess`` decodes. Reading order: ``pipeline``, ``inspection``, ``decode``, ``canonical``, ``transform``.
"""

from __future__ import annotations

from service.image.header import WARN_EXIF, WARN_FRAMES, Format, Header, Limits, warn_orientation
from service.image.inspection import inspect
from service.image.pipeline import PREVIEW_SIDE, Mode, Preview, preprocess
from service.image.transform import CropBox, Pixels, Transform, crop_box

__all__ = [
    "PREVIEW_SIDE",
    "WARN_EXIF",
    "WARN_FRAMES",
    "CropBox",
    "Format",
    "Header",
    "Limits",
    "Mode",
    "Pixels",
    "Preview",
    "Transform",
    "crop_box",
    "inspect",
    "preprocess",
    "warn_orientation",
]
