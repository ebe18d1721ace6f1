"""Decodes encoded bytes to a canonical image (RGB, 8 bits, opaque, upright) and from it to the pixels of a runtime.

The header's format selects Pillow's plugin, so that no other plugin reads the bytes, and the plugin gets only the image
without metadata, which could cost much time and memory (ADR 10). Pillow's messages contain addresses and versions, so
failures get our own. What Pillow and libtiff log about broken images is suppressed, because the sender determines the
amount: for one TIFF of 4 MB libtiff wrote 60 MB to standard error, one line per row.

Embedded colour profiles are not applied: torchvision does not apply them either, and the weights were trained without.
"""

from __future__ import annotations

import ctypes
import io
import logging
import math
import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    WebPImagePlugin,
    _imaging,
)

from service.errors import BadImage, ImageTooLarge, ServiceError
from service.image.formats.gif import decode_gif
from service.image.formats.heif import decode_avif, decode_heic
from service.image.formats.jpeg import WARN_ENDLESS, decode_jpeg
from service.image.formats.png import pixel_chunks, scale_transparency
from service.image.formats.tiff_pixels import decode_tiff
from service.image.header import CORRUPT, DEFAULT_LIMITS, TRUNCATED, Format, Header, Limits
from service.image.transform import Pixels, Transform, resize_and_crop

#: How JPEGs are decoded: bit-equal to torchvision, or at a reduced scale if they are much larger than needed.
Mode = Literal["exact", "fast"]

#: Most pixels per side of the photo in ``Findings``.
PREVIEW_SIDE: Final = 1024

#: What is done with a JPEG that libjpeg finds damaged: answered with a warning, or refused.
Damaged = Literal["warn", "refuse"]

_UNIFORM: Final = 4  # what lossy compression makes of one colour
_DARK: Final = 15  # 12 bits stored in 16 without scaling
WARN_UNIFORM: Final = "the image is one colour all over, or wholly transparent"
WARN_DARK: Final = f"the image is nearly black: no sample is above {_DARK} of 255"

#: ``fast`` decodes a JPEG at no less than this many times the resized size, so that resizing still averages pixels.
_DRAFT_FACTOR: Final = 2

_TRANSPOSITIONS: Final[dict[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE: Final = (255, 255, 255)

_NO_WARNINGS: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_lock = threading.Lock()

_READERS: Final[dict[Format, Callable[[bytes], ImageFile.ImageFile]]] = {
    "png": lambda data: PngImagePlugin.PngImageFile(io.BytesIO(pixel_chunks(data))),
    "webp": lambda data: WebPImagePlugin.WebPImageFile(io.BytesIO(data)),
    "bmp": lambda data: BmpImagePlugin.BmpImageFile(io.BytesIO(data)),
}


@dataclass(slots=True)
class Findings:
    """Receives what ``preprocess`` finds out beside the pixels."""

    keep_photo: bool = False  # for a drawing
    #: A small copy of the photo: RGB, upright, opaque. Not set without ``keep_photo``.
    photo: Image.Image = field(init=False)
    #: Messages for the sender: the image is damaged, or may not show what was meant.
    warnings: list[str] = field(default_factory=list)

    def take(self, photo: Image.Image) -> None:
        """Copy ``photo``, reduced by the smallest integer that gives at most ``PREVIEW_SIDE`` pixels per side."""
        self.photo = photo.reduce(math.ceil(max(photo.size) / PREVIEW_SIDE))


def preprocess(
    data: bytes,
    header: Header,
    transform: Transform,
    mode: Mode = "exact",
    limits: Limits = DEFAULT_LIMITS,
    damaged: Damaged = "warn",
    findings: Findings | None = None,
) -> Pixels:
    """The (crop, crop, 3) uint8 RGB pixels that a runtime takes: C-contiguous, read-only.

    Decodes all pixels of ``data``, whose ``header`` must come from ``inspect`` with the same ``limits``.

    ``exact`` is bit-equal to torchvision's preset on the canonical image; ``fast`` decodes JPEGs at a reduced scale if
    they are at least twice as large as needed. Thread-safe. Peak memory is 4 to 12 bytes per pixel, 16 for WebP, and at
    most one gigabyte with the default limits (ADR 10). Raises BadImage or ImageTooLarge, which are the sender's faults;
    any other exception, including MemoryError, is the service's.
    """
    silence_decoders()
    findings = findings or Findings()
    try:
        shortest = _DRAFT_FACTOR * transform.resize_size if mode == "fast" else None
        photo = load_pixels(data, header, limits, shortest, damaged, findings)
    except (MemoryError, ServiceError):
        raise
    except Exception as error:  # also from Pillow's conversions, which reject palettes that its readers accepted
        raise _refusal(error, header) from None
    if findings.keep_photo:
        findings.take(photo)
    pixels = resize_and_crop(photo, transform)
    findings.warnings += _doubts(pixels)
    return pixels


def load_pixels(
    data: bytes, header: Header, limits: Limits, shortest: int | None, damaged: Damaged, findings: Findings
) -> Image.Image:
    """Decode completely; a JPEG, with ``shortest``, at the smallest scale at which no side is shorter than that."""
    image: Image.Image
    if header.format == "jpeg":
        image, warning = decode_jpeg(data, header, limits, shortest)
        if warning is not None:
            if damaged == "refuse" and warning != WARN_ENDLESS:
                raise BadImage(warning)
            findings.warnings.append(warning)
    elif header.format == "gif":
        image = decode_gif(data, header, limits)
    elif header.format == "tiff":
        image, told = decode_tiff(data, limits)
        findings.warnings += told
    elif header.format == "avif":
        image = decode_avif(data, header)
    elif header.format == "heic":
        image = decode_heic(data, header)
    else:
        image = _READERS[header.format](data)
        limits.check_size(*image.size)
        if isinstance(image, PngImagePlugin.PngImageFile):
            scale_transparency(image)
        image.load()
    limits.check_size(*image.size)
    opaque = _opaque_rgb(image)
    method = None if header.format == "heic" else _TRANSPOSITIONS.get(header.orientation)
    return opaque if method is None else opaque.transpose(method)


def _doubts(pixels: Pixels) -> list[str]:
    """Why ``pixels`` may not show what was meant. Takes some 20 µs."""
    if all((np.ptp(part, axis=(0, 1)) <= _UNIFORM).all() for part in (pixels[::16, ::16], pixels)):
        return [WARN_UNIFORM]
    return [WARN_DARK] if pixels.max() <= _DARK else []


def _refusal(error: Exception, header: Header) -> ServiceError:
    if isinstance(error, Image.DecompressionBombError):
        return ImageTooLarge("the image has more pixels than its header declares")
    if not header.complete or "truncated" in str(error).lower():
        return BadImage(TRUNCATED)
    return BadImage(CORRUPT)


def _opaque_rgb(image: Image.Image) -> Image.Image:
    """``image`` in mode RGB: transparency over white, the high byte of deep grey, Pillow's conversion otherwise.

    Returns ``image`` itself if nothing has to be done.
    """
    mode = image.mode
    if mode.startswith("I;16"):
        return _from_deep_grey(image)
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _over_white(image)
    return image if mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, _WHITE)
    # The image is its own mask, which saves a separate alpha plane: at most two images are in memory.
    canvas.paste(image, (0, 0), image)
    return canvas


def _from_deep_grey(image: Image.Image) -> Image.Image:
    deep = np.asarray(image)
    grey = (deep >> 8).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[deep == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def silence_decoders() -> None:
    """Silence Pillow's warnings and log records, and libtiff, for the whole process. Cheap if already done.

    Pillow warns about tags that this service never reads; where warnings are errors, an intact image would fail.
    ``catch_warnings`` is not thread-safe, so a permanent filter is installed.
    """
    if _NO_WARNINGS not in warnings.filters:
        with _lock:
            if _NO_WARNINGS not in warnings.filters:
                logging.getLogger("PIL").setLevel(logging.CRITICAL)
                _silence_libtiff()
                warnings.filterwarnings("ignore", module=r"PIL\.")


def _silence_libtiff() -> None:
    """Pillow disables its warnings but not its errors, which are lines on standard error."""
    # Pillow's own module is linked with libtiff, so its handle finds the function.
    handler = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
    if handler is not None:
        handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        handler(None)
