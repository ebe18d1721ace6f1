"""What Pillow and libtiff say about broken images, kept out of the service's log.

A sender decides how much that is: one TIFF of 4 MB made libtiff write 60 MB to standard error, a line a row. The
outcome of each image says what there is to say. Called by ``decode``; the first call counts.
"""

from __future__ import annotations

import ctypes
import logging
import re
import threading
import warnings
from typing import Final

from PIL import _imaging

_FILTER: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_lock = threading.Lock()


def silence() -> None:
    """Silence warnings, log records and libtiff for the whole process; cheap if already done.

    Pillow warns about tags that this service never reads. ``catch_warnings`` is not thread-safe, and a filter that
    makes warnings errors would turn an intact picture into a failure; so one filter is installed for good.
    """
    if _FILTER not in warnings.filters:
        with _lock:
            if _FILTER not in warnings.filters:
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
