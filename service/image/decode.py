"""Decodes encoded bytes to a loaded Pillow image, and turns every failure into one of our own messages.

Called by ``preprocess`` with a header from ``inspect``. The header's format selects Pillow's plugin, so that no other
plugin reads the bytes, and the plugin gets only the image without metadata, which could cost much time and memory
(ADR 10). Pillow's messages contain addresses and versions, so they are not passed on. Nor is what Pillow and libtiff
log about broken images, because the sender determines the amount: for one TIFF of 4 MB libtiff wrote 60 MB to standard
error, one line per row.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
import threading
import warnings
from collections.abc import Callable
from typing import Final

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    _imaging,
)

from service.errors import BadImage, ImageTooLarge, ServiceError
from service.image.formats.gif import first_frame
from service.image.formats.png import pixel_chunks, scale_transparency
from service.image.formats.tiff import first_page
from service.image.header import CORRUPT, TRUNCATED, Format, Header, Limits

_BITS_PER_SAMPLE: Final = 258
#: Pillow's mode and raw mode by the number of components. Adobe stores CMYK inverted.
_JPEG_MODES: Final = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}

_NO_WARNINGS: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_lock = threading.Lock()


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """Pillow's decoder without its parser of markers, which runs in Python; ``header`` replaces it.

    Of an MPO (a JPEG followed by further images) only the first image is decoded.
    """

    def __init__(self, data: bytes, header: Header) -> None:
        self._header = header
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        self._size = (self._header.width, self._header.height)
        self._mode, rawmode = _JPEG_MODES[self._header.components]
        self.tile = [ImageFile._Tile("jpeg", (0, 0, *self._size), 0, (rawmode, ""))]


_READERS: Final[dict[Format, Callable[[bytes, Header, Limits], ImageFile.ImageFile]]] = {
    "jpeg": lambda data, header, _: _Jpeg(data, header),
    "png": lambda data, *_: PngImagePlugin.PngImageFile(io.BytesIO(pixel_chunks(data))),
    "webp": lambda data, *_: WebPImagePlugin.WebPImageFile(io.BytesIO(data)),
    "gif": lambda data, _, limits: GifImagePlugin.GifImageFile(io.BytesIO(first_frame(data, limits))),
    "bmp": lambda data, *_: BmpImagePlugin.BmpImageFile(io.BytesIO(data)),
    "tiff": lambda data, *_: TiffImagePlugin.TiffImageFile(io.BytesIO(first_page(data))),
}


def load_pixels(data: bytes, header: Header, limits: Limits, draft: int | None) -> tuple[Image.Image, int]:
    """Decode completely; a JPEG, with ``draft``, at the smallest DCT scale whose short side is at least ``draft``.

    Returns the image and its bits per sample, which matter in mode I;16. Raises BadImage, or ImageTooLarge if the
    decoder finds more pixels than the header declared.
    """
    silence_decoders()
    try:
        return _load(data, header, limits, draft)
    except (MemoryError, ServiceError):
        raise
    except Exception as error:
        raise _refusal(error, header) from None


def _load(data: bytes, header: Header, limits: Limits, draft: int | None) -> tuple[Image.Image, int]:
    image = _READERS[header.format](data, header, limits)
    limits.check_size(*image.size)
    if draft is not None and isinstance(image, _Jpeg):
        image.draft(None, (draft, draft))
    grey_bits = 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        grey_bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (grey_bits,)))
    elif isinstance(image, PngImagePlugin.PngImageFile):
        scale_transparency(image)
    image.load()
    limits.check_size(*image.size)
    return image, grey_bits


def _refusal(error: Exception, header: Header) -> ServiceError:
    if isinstance(error, Image.DecompressionBombError):
        return ImageTooLarge("the image has more pixels than its header declares")
    if not header.complete or "truncated" in str(error).lower():
        return BadImage(TRUNCATED)
    return BadImage(CORRUPT)


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
