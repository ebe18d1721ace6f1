"""The event loop of a server under a profiler: its CPU time by library.

As a program (``python -m benchmarks.profiling STATS serve …``) this is ``mobilenet-service`` with a profiler on its
main thread, from SIGUSR1 to the end; ``by_library`` reads the file STATS. The profiler measures the thread's CPU time,
so waiting does not count. Its own cost is included, and weighs most on small functions.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import cast

#: The first match counts. Everything else is built-in functions and the standard library.
_LIBRARIES = (
    ("/benchmarks/", "the profiler"),
    ("/uvicorn/", "uvicorn and httptools: HTTP to ASGI and back"),
    ("/prometheus_client/", "prometheus_client"),
    ("/starlette/", "starlette: headers, response"),
    ("/service/http/", "service: http"),
    ("/service/engine/", "service: engine"),
    ("/service/image/", "service: headers of images"),
    ("/service/", "service: the rest"),
    ("/asyncio/", "asyncio: tasks, time-outs"),
)
_OTHER = "built-in functions, standard library"


def by_library(stats: Path, requests: int, processor_time: float) -> dict[str, float]:
    """Microseconds per request by library, largest first.

    ``processor_time`` is the thread's total in seconds. The part that no Python function accounts for is uvloop's.
    """
    spent: dict[str, float] = defaultdict(float)
    # typeshed leaves the table out: {(file, line, function): (calls, primitive calls, own time, time, callers)}.
    table = cast(
        dict[tuple[str, int, str], tuple[int, int, float, float, object]], vars(pstats.Stats(str(stats)))["stats"]
    )
    for (file, _, _), (_, _, own, _, _) in table.items():
        name = next((name for part, name in _LIBRARIES if part in file), _OTHER)
        spent[name] += own / requests * 1e6
    spent.pop("the profiler", None)
    spent["uvloop and the kernel: sockets, wake-ups"] = processor_time / requests * 1e6 - sum(spent.values())
    return dict(sorted(spent.items(), key=lambda entry: -entry[1]))


def main() -> None:
    stats = sys.argv.pop(1)
    profile = cProfile.Profile(time.thread_time)
    leave = os._exit

    def begin(number: int, frame: FrameType | None) -> None:
        profile.enable()

    def dump_and_leave(status: int) -> None:
        profile.disable()
        profile.dump_stats(stats)
        leave(status)

    # ``os._exit`` is the service's last call; no code of its own runs after it.
    os._exit = dump_and_leave  # type: ignore[assignment]  # it does not return either
    from service.cli import main as service_main

    signal.signal(signal.SIGUSR1, begin)
    service_main()


if __name__ == "__main__":
    main()
