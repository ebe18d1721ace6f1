"""The whole of preprocessing, bytes to pixels; what a decode thread runs for each image.

bytes ─► inspect ─► Header ─┐
  └──────────────────────► preprocess: decode ─► canonical ─► transform ─► Pixels
                                                 └───────► Preview, where one is passed
"""

from __future__ import annotations

import math
from typing import Final, Literal

from PIL import Image

from service.errors import BadImage, ServiceError
from service.image import canonical, decode
from service.image.header import CORRUPT, DEFAULT_LIMITS, Header, Limits
from service.image.transform import Pixels, Transform, resize_and_crop

#: How JPEGs are decoded: bit-equal to torchvision's way, or at a reduced scale where that costs nothing that matters.
Mode = Literal["exact", "fast"]

#: ``fast`` decodes a JPEG to no less than this many times the resized size: the filter still averages real pixels.
_DRAFT_FACTOR: Final = 2

#: Most pixels per side of a ``Preview`` photo.
PREVIEW_SIDE: Final = 1024


class Preview:
    """Where ``preprocess`` leaves a small copy of the photo that it decodes: RGB, upright, opaque."""

    __slots__ = ("photo",)

    photo: Image.Image

    def take(self, photo: Image.Image) -> None:
        """Copy ``photo``, reduced by the least whole factor that leaves at most ``PREVIEW_SIDE`` pixels per side."""
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

    Decodes all pixels of ``data``, whose ``header`` comes from ``inspect`` with the same ``limits``.

    ``exact`` is bit-equal to torchvision's preset on the canonical image; ``fast`` differs in decoding JPEG at a
    reduced scale where it is at least twice as large as needed. Safe to call from several threads at once. Peak
    memory is 4 to 12 bytes a pixel, 16 for WebP, and at the default limits never above a gigabyte (ADR 10). Raises
    BadImage or ImageTooLarge, for which only the sender can be blamed; whatever else leaves here, MemoryError
    included, is our fault.
    """
    draft = _DRAFT_FACTOR * transform.resize_size if mode == "fast" else None
    photo = _upright(data, header, limits, draft)
    if preview is not None:
        preview.take(photo)
    return resize_and_crop(photo, transform)


def _upright(data: bytes, header: Header, limits: Limits, draft: int | None) -> Image.Image:
    image, grey_bits = decode.load_pixels(data, header, limits, draft)
    try:
        return canonical.apply_orientation(canonical.opaque_rgb(image, grey_bits), header.orientation)
    except (ServiceError, MemoryError):
        raise
    except Exception:
        # Pillow's conversions reject palettes and transparency that its readers accepted.
        raise BadImage(CORRUPT) from None
