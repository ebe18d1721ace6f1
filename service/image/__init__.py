"""Converts encoded images to the uint8 arrays that runtimes take.

There are two steps, so that a request can be admitted by its images' sizes before any work: ``inspect`` reads the
header, on the event loop; ``preprocess`` decodes, on a decode thread or a runner.

bytes ─► inspect ─► Header ─┐
  └──────────────────────► preprocess: decode ─► transform ─► Pixels
                                           └───► Preview, if one is passed
"""

from __future__ import annotations

import math
from typing import Final, Literal

from PIL import Image

from service.image import decode
from service.image.header import DEFAULT_LIMITS, WARN_EXIF, WARN_FRAMES, Format, Header, Limits
from service.image.inspection import inspect
from service.image.transform import CropBox, Pixels, Transform, crop_box, resize_and_crop

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

#: How JPEGs are decoded: bit-equal to torchvision, or at a reduced scale if they are much larger than needed.
Mode = Literal["exact", "fast"]

#: ``fast`` decodes a JPEG at no less than this many times the resized size, so that resizing still averages pixels.
_DRAFT_FACTOR: Final = 2

#: Most pixels per side of a ``Preview`` photo.
PREVIEW_SIDE: Final = 1024


class Preview:
    """Receives a small copy of the photo that ``preprocess`` decodes: RGB, upright, opaque."""

    __slots__ = ("photo",)

    photo: Image.Image

    def take(self, photo: Image.Image) -> None:
        """Copy ``photo``, reduced by the smallest integer that gives at most ``PREVIEW_SIDE`` pixels per side."""
        self.photo = photo.reduce(math.ceil(max(photo.size) / PREVIEW_SIDE))


def preprocess(
    data: bytes,
    header: Header,
    transform: Transform,
    mode: Mode = "exact",
    limits: Limits = DEFAULT_LIMITS,
    preview: Preview | None = None,
) -> Pixels:
    """The (crop, crop, 3) uint8 RGB pixels that a runtime takes: C-contiguous, read-only.

    Decodes all pixels of ``data``, whose ``header`` must come from ``inspect`` with the same ``limits``.

    ``exact`` is bit-equal to torchvision's preset on the canonical image; ``fast`` decodes JPEGs at a reduced scale if
    they are at least twice as large as needed. Thread-safe. Peak memory is 4 to 12 bytes per pixel, 16 for WebP, and at
    most one gigabyte with the default limits (ADR 10). Raises BadImage or ImageTooLarge, which are the sender's faults;
    any other exception, including MemoryError, is the service's.
    """
    draft = _DRAFT_FACTOR * transform.resize_size if mode == "fast" else None
    photo = decode.load_pixels(data, header, limits, draft)
    if preview is not None:
        preview.take(photo)
    return resize_and_crop(photo, transform)
