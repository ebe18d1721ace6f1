"""Inputs that once did what no input may do, as small as they get; run by the tests at the
default limits, and seeds of every fuzzing run."""

from __future__ import annotations

import base64
import zlib
from typing import Final

#: Name and what was wrong, and the input: deflated, in base64.
REGRESSIONS: Final[dict[str, str]] = {
    "jpeg, a frame header hidden in a segment without a length: our reader and Pillow's saw another size": (
        "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwZnhP6XgAAM3B4MEgwQjoyDD/yMMomDzUQAjUFhEAF2U4f9PBn6IbiAE674FohkY7BkagDI3AXWmVSQ="
    ),
    "png, a row of 2 GiB: MemoryError, hence 500": (
        "eNrrDPBz5+WS4mJgYOD19HAJYmIAA0YBNiB5QPrYfiDF7eniGFIxJzmhASjLycD4O2jHSpAiT1c/l3VOCU0Anm0Ohw=="
    ),
}


def decoded(name: str) -> bytes:
    return zlib.decompress(base64.b64decode(REGRESSIONS[name]))


def encoded(data: bytes) -> str:
    """The form in which an input is kept."""
    return base64.b64encode(zlib.compress(data, 9)).decode()
