"""Encoded bytes to a loaded Pillow image, and every way in which that can fail to one sentence of ours.

Called by ``prepare`` in a decode thread, with a header that ``inspect`` accepted. Pillow's plugin is named by that
header, so that no other one ever sees the bytes; what it sees of them is the image alone, no metadata, which costs
more than it is worth (ADR 10). Its messages never leave this module: they contain addresses and versions. Nor does
what Pillow and libtiff log about broken images, whose amount the sender decides: one TIFF of 4 MB made libtiff write
60 MB to standard error, one line per row.
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
#: Pillow's mode, and how the decoder's samples become it, by the number of colours. Adobe stores CMYK inverted.
_JPEG_MODES: Final = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}

_NO_WARNINGS: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_lock = threading.Lock()


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """Pillow's decoder without its reader of markers, which runs in Python over everything but the pixels.

    ``header`` comes from our own reader. An MPO (a JPEG with further images behind it) is the JPEG it begins with.
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
    """Decode completely; of a JPEG, with ``draft``, at the smallest DCT scale whose short side is at least that.

    Returns the image and the bits of a sample if its mode is I;16. Raises BadImage, or ImageTooLarge if the decoder
    finds more pixels than the header declared.
    """
    silence_decoders()
    try:
        return _load(data, header, limits, draft)
    except (MemoryError, ServiceError):
        raise
    except Exception as error:
        raise _refusal(error, header) from None


def _load(data: bytes, header: Header, limits: Limits, draft: int | None) -> tuple[Image.Image, int]:
    # A BytesIO of bytes shares them.
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
    """Silence Pillow's warnings and log records, and libtiff, for the whole process; cheap if already done.

    Pillow warns about tags that this service never reads. ``catch_warnings`` is not thread-safe, and a filter that
    makes warnings errors would make a failure of an intact image; so one filter is installed for good.
    """
    if _NO_WARNINGS not in warnings.filters:
        with _lock:
            if _NO_WARNINGS not in warnings.filters:
                logging.getLogger("PIL").setLevel(logging.CRITICAL)
                _silence_libtiff()
                warnings.filterwarnings("ignore", module=r"PIL\.")


def _silence_libtiff() -> None:
    """Pillow turns its warnings off and leaves its errors on, which are lines on standard error."""
    # Among what Pillow's own module is linked with, wherever that lies.
    handler = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
    if handler is not None:
        handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        handler(None)
