"""One input through ``inspect`` and ``preprocess``, and what may not happen then."""

from __future__ import annotations

import io
import time
from typing import Final

import numpy as np
from PIL import JpegImagePlugin

from service.errors import ServiceError
from service.image import Header, Limits, Transform, inspect, preprocess

#: Low, so that an execution is short: what larger images cost is a matter of arithmetic (ADR 10) and of its own test.
LIMITS: Final = Limits(max_pixels=250_000, max_blocks=2_000, max_scan_pixels=2_000_000, max_rle_pixels=10_000)
_TRANSFORM: Final = Transform(64, 56)

#: Seconds of a core. Thousands of executions a second are usual; instrumented code is slow, hence the distance.
MAX_SECONDS: Final = 1.0


class Finding(Exception):
    """Something that is wrong although nothing was raised."""


def run(data: bytes, limits: Limits = LIMITS) -> None:
    """Returns if all is well, ServiceErrors included; raises whatever is not."""
    started = time.thread_time()
    try:
        header = inspect(data, limits)
        _agree(data, header)
        image = preprocess(data, header, _TRANSFORM, limits=limits)
    except ServiceError as error:
        if error.status not in (413, 415, 422) or "0x" in error.detail or "PIL" in error.detail:
            raise Finding(f"{error.status} {error.detail}") from None
    else:
        if image.shape != (56, 56, 3) or image.dtype != np.uint8 or not image.flags.c_contiguous:
            raise Finding(f"{image.dtype} of shape {image.shape}")
    if (seconds := time.thread_time() - started) > MAX_SECONDS:
        raise Finding(f"slow: {seconds:.1f} s")


def _agree(data: bytes, header: Header) -> None:
    """Our reader of JPEG markers decides how much memory libjpeg gets to write to: it must see what Pillow's sees."""
    if header.format != "jpeg":
        return
    try:
        theirs = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    except Exception:  # its metadata is damaged, which ours does not look at
        return
    if theirs.size != (header.width, header.height) or len(theirs.getbands()) != header.components:
        raise Finding(f"{theirs.size} and {theirs.mode} by Pillow, {header} by us")
