"""Converts encoded images to the uint8 arrays that runtimes take.

There are two steps, so that a request can be admitted by its images' sizes before any work: ``inspect`` reads the
header, ``preprocess`` decodes. Reading order: ``pipeline``, ``inspection``, ``decode``, ``canonical``, ``transform``.
"""

from __future__ import annotations

from service.image.header import WARN_EXIF, WARN_FRAMES, Format, Header, Limits
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
]
