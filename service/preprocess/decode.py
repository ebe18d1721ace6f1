"""Encoded bytes to a loaded Pillow image, and every way in which that can fail to one sentence of ours.

Called by ``prepare`` in a decode thread, with a header that ``inspect`` accepted. Pillow's plugin is named by that
header, so that no other one ever sees the bytes, and its text never leaves: it contains addresses and versions.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
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
)

from service.errors import BadImage, ImageTooLarge, ServiceError
from service.preprocess import jpeg, png
from service.preprocess.facts import CORRUPT, TRUNCATED, Format, Header
from service.preprocess.headers import check_pixels
from service.preprocess.limits import Limits

_BITS_PER_SAMPLE: Final = 258


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """Pillow's reader, less a full EXIF parse for a resolution that nobody asks for.

    Opened directly, it also takes an MPO (a JPEG with further pictures behind it) for the JPEG that it begins with.
    """

    def _read_dpi_from_exif(self) -> None:
        pass


_READERS: Final[dict[Format, type[ImageFile.ImageFile]]] = {
    "jpeg": _Jpeg,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
}

_FILTER: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_filter_lock = threading.Lock()


def silence_pillow() -> None:
    """Ignore the warnings that Pillow's modules raise about metadata, for the whole process; cheap if already done.

    Pillow warns about tags that this service never reads. ``catch_warnings`` is not thread-safe, and a filter that
    makes warnings errors would turn an intact picture into a failure; so one filter is installed for good.
    """
    if _FILTER not in warnings.filters:
        with _filter_lock:
            if _FILTER not in warnings.filters:
                warnings.filterwarnings("ignore", module=r"PIL\.")


def load(data: bytes, header: Header, limits: Limits, draft: int | None) -> tuple[Image.Image, int, bool]:
    """Decode completely; of a JPEG, with ``draft``, at the smallest DCT scale whose short side is at least that.

    Returns the image, the bits of a sample if its mode is I;16, and whether damaged metadata had to be left out.
    Raises BadImage, or ImageTooLarge if the decoder finds more pixels than the header declared.
    """
    silence_pillow()
    try:
        return (*_load(data, header, limits, draft), False)
    except (MemoryError, ImageTooLarge):
        raise
    except Exception as error:
        # An OSError is about the pixels; all else can be metadata, for which Pillow gives up the whole picture.
        bare = None if isinstance(error, OSError) else _without_metadata(data, header.format)
        if bare is None or len(bare) == len(data):
            raise _refusal(error, header) from None
    try:
        return (*_load(bare, header, limits, draft), True)
    except (MemoryError, ImageTooLarge):
        raise
    except Exception as error:
        raise _refusal(error, header) from None


def _load(data: bytes, header: Header, limits: Limits, draft: int | None) -> tuple[Image.Image, int]:
    # A BytesIO of bytes shares them.
    image = _READERS[header.format](io.BytesIO(data))
    check_pixels(*image.size, limits)
    if draft is not None and header.format == "jpeg":
        image.draft(None, (draft, draft))
    grey_bits = 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        grey_bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (grey_bits,)))
    elif isinstance(image, PngImagePlugin.PngImageFile):
        png.scale_transparency(image)
    image.load()
    check_pixels(*image.size, limits)
    return image, grey_bits


def _without_metadata(data: bytes, kind: Format) -> bytes | None:
    strip = {"jpeg": jpeg.without_metadata, "png": png.without_metadata}.get(kind)
    return None if strip is None else strip(data)


def _refusal(error: Exception, header: Header) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return ImageTooLarge("the image has more pixels than its header declares")
    if not header.complete or "truncated" in str(error).lower():
        return BadImage(TRUNCATED)
    return BadImage(CORRUPT)
