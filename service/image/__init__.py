"""Converts encoded images to the uint8 arrays that runtimes take.

There are two steps, so that a request can be admitted by its images' sizes before any work: ``inspect`` reads the
header, on the event loop; ``preprocess`` decodes, on a decode thread or a runner.

bytes ─► inspect ─► Header ─┐
  └──────────────────────► preprocess: decode ─► transform ─► Pixels
                                           └───► Findings: warnings, a small copy
"""

from service.image.decode import PREVIEW_SIDE, Damaged, Findings, Mode, preprocess
from service.image.header import WARN_EXIF, WARN_FRAMES, Format, Header, Limits
from service.image.inspection import inspect, is_image
from service.image.transform import CropBox, Pixels, Transform, crop_box

__all__ = [
    "PREVIEW_SIDE",
    "WARN_EXIF",
    "WARN_FRAMES",
    "CropBox",
    "Damaged",
    "Findings",
    "Format",
    "Header",
    "Limits",
    "Mode",
    "Pixels",
    "Transform",
    "crop_box",
    "inspect",
    "is_image",
    "preprocess",
]
