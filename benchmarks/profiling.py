"""The event loop of a server under a profiler: which library its processor time goes to.

Run as a program (``python -m benchmarks.profiling STATS serve …``) it is ``mobilenet-service`` whose main thread is
profiled from a SIGUSR1 to its end; ``by_library`` reads what it leaves. Time is the thread's processor time, so that
waiting counts nothing; the profiler's own cost is in it and weighs on small functions most.
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

#: First match wins. The rest is built-in functions and the standard library.
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
    """Microseconds a request by library, most first.

    ``processor_time`` is what the thread used in all, in seconds: what no Python function accounts for is uvloop's.
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

    # The service's last act; no code of its own runs after it.
    os._exit = dump_and_leave  # type: ignore[assignment]  # it returns to nobody either
    from service.cli import main as service_main

    signal.signal(signal.SIGUSR1, begin)
    service_main()


if __name__ == "__main__":
    main()
