"""``python -m tests.hostile.faults.faulty serve``: the service with a fake runtime that fails as images ask it to.

What fails in the runtime is asked for by an image's first pixel (``tests.running.png(RAISES)``), what fails in the
decoder by its size (``png(marker, NO_MEMORY_TO_DECODE)``). With ``QUICK`` in the environment the watchdog waits for
fractions of a second.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import cli
from service.engine import watchdog
from service.errors import DeviceLost
from service.image import Header, decode
from service.serving import build
from tests.fakes import FakeRuntime

#: First pixels. From ``GOOD`` on an image is an image.
RAISES, NO_MEMORY, HANGS, LOSES, BREAKS, GOOD = 1, 2, 3, 4, 5, 100

#: Widths.
NO_MEMORY_TO_DECODE, ENDLESS_TO_DECODE = 301, 302

QUICK = {"FAULTY_QUICK": "1"}

PROGRAM = ("-m", "tests.hostile.faults.faulty")


class Faults:
    """What ``FakeRuntime`` does before each batch."""

    def __init__(self) -> None:
        self._broken = False

    def __call__(self, images: NDArray[np.uint8]) -> None:
        first = images[:, 0, 0]
        # Others' first pixels, the probe image's among them, have another blue.
        markers = set((first[:, 0] + 256 * first[:, 1].astype(int))[first[:, 2] == 1].tolist())
        self._broken |= BREAKS in markers
        if HANGS in markers:
            threading.Event().wait()
        if LOSES in markers:
            raise DeviceLost("the device fell off the bus")
        if NO_MEMORY in markers:
            raise MemoryError
        if RAISES in markers or self._broken:
            raise RuntimeError("secret path /service/x.py")


def main() -> None:
    load_pixels = decode.load_pixels

    def load_or_fail(*arguments: Any) -> Any:
        (header,) = (argument for argument in arguments if isinstance(argument, Header))
        if header.width == NO_MEMORY_TO_DECODE:
            raise MemoryError
        if header.width == ENDLESS_TO_DECODE:
            threading.Event().wait()
        return load_pixels(*arguments)

    faults = Faults()
    decode.load_pixels = load_or_fail  # type: ignore[assignment]
    build.create_runtime = lambda options, artifact: FakeRuntime(before=faults)
    if "FAULTY_QUICK" in os.environ:
        # Three seconds from the first complaint to the end: time for a test to look at it on a busy machine.
        watchdog.TICK_S, watchdog.FAILED_AFTER = 0.3, 10
        watchdog.INFER_FLOOR_S = watchdog.DECODE_FLOOR_S = 0.3
    sys.argv[0] = "mobilenet-service"
    cli.main()


if __name__ == "__main__":
    main()
