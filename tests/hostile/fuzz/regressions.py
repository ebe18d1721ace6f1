"""Inputs that once did what no input may do, as small as they get; run by the tests at the
default limits, and seeds of every fuzzing run."""

from __future__ import annotations

import base64
import zlib
from typing import Final


def _inflated(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


#: Name and what was wrong, and the input: deflated, in base64.
REGRESSIONS: Final[dict[str, bytes]] = {
    "jpeg, a frame header hidden in a segment without a length: our reader and Pillow's saw another size": _inflated(
        "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwZnhP6XgAAM3B4MEgwQjoyDD/yMMomDzUQAjUFhEAF2U4f9PBn6IbiAE674FohkY7BkagDI3AXWmVSQ="
    ),
    "png, a row of 2 GiB: MemoryError, hence 500": _inflated(
        "eNrrDPBz5+WS4mJgYOD19HAJYmIAA0YBNiB5QPrYfiDF7eniGFIxJzmhASjLycD4O2jHSpAiT1c/l3VOCU0Anm0Ohw=="
    ),
}
