"""``mobilenet-service`` with a profiler that sleeps until SIGUSR1: where is each thread, every 5 ms for 2 s?

    python -m benchmarks.gpu.sampler serve …      one process, or the supervisor
    started by the supervisor                     an engine or a worker

Python's own view (``sys._current_frames``): a function counts for what it calls in C, too, and a thread that waits for
the GIL counts where it waits. Beside it the processor time of each group of threads, which tells waiting from work.
Leaves PID.json in the folder that ``BENCHMARK_PROFILES`` names. Imports nothing that the service would not import.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import CodeType
from typing import Any

from benchmarks.processes import thread_seconds

PROFILES = "BENCHMARK_PROFILES"
PERIOD_S, SECONDS = 0.005, 2.0

#: Where threads wait, by the end of the file's name and the function. An event loop waits inside ``Runner.run``, where
#: uvloop's own work, which Python does not see, counts as well.
_WAITS = {
    ("threading.py", "wait"),
    ("threading.py", "join"),
    ("threading.py", "_wait_for_tstate_lock"),
    ("queue.py", "get"),
    ("selectors.py", "select"),
    ("concurrent/futures/thread.py", "_worker"),
    ("cuda/streams.py", "synchronize"),
    ("asyncio/runners.py", "run"),
}
_GROUPS = {"MainThread": "event loop", "decode": "decode", "runner": "runner"}

#: By group: its threads, processor seconds, samples by function, and how many of them waited.
Profile = dict[str, dict[str, Any]]


def start(path: Path, *, seconds: float = SECONDS) -> None:
    """To be called by the main thread, which takes the signal, once it has something to do."""

    def leave() -> None:
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(sample(seconds)))
        partial.rename(path)

    def begin(number: int, frame: object) -> None:
        threading.Thread(target=leave, name="sampler", daemon=True).start()

    signal.signal(signal.SIGUSR1, begin)


def sample(seconds: float) -> Profile:
    own = threading.get_ident()
    samples: dict[str, Counter[tuple[str, int]]] = defaultdict(Counter)
    waited: Counter[str] = Counter()
    began, process_began, used_before = time.monotonic(), time.process_time(), thread_seconds(os.getpid())
    while (passed := time.monotonic() - began) < seconds:
        groups = {thread.ident: _group(thread.name) for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident == own:
                continue
            group = groups.get(ident, "other")
            if _waits(frame.f_code):
                waited[group] += 1
            else:
                samples[group][_name(frame.f_code), frame.f_lineno] += 1
        time.sleep(PERIOD_S)
    used = thread_seconds(os.getpid())
    names = {thread.native_id: _group(thread.name) for thread in threading.enumerate() if thread.ident != own}
    profile: Profile = {"process": {"seconds": passed, "cpu_s": time.process_time() - process_began}}
    for group in sorted(set(names.values())):
        members = [native for native, name in names.items() if name == group]
        profile[group] = {
            "threads": len(members),
            "cpu_s": sum(used.get(native, 0.0) - used_before.get(native, 0.0) for native in members),
            "waited": waited[group],
            "functions": _by_function(samples[group]),
        }
    return profile


def _by_function(samples: Counter[tuple[str, int]]) -> dict[str, int]:
    """With the line at which it was seen most."""
    lines: dict[str, Counter[int]] = defaultdict(Counter)
    for (name, line), count in samples.items():
        lines[name][line] += count
    ordered = sorted(lines.items(), key=lambda entry: -entry[1].total())
    return {f"{name}:{counts.most_common(1)[0][0]}": counts.total() for name, counts in ordered}


def _group(name: str) -> str:
    return next((group for prefix, group in _GROUPS.items() if name.startswith(prefix)), "other")


def _waits(code: CodeType) -> bool:
    return any(code.co_name == name and code.co_filename.endswith(file) for file, name in _WAITS)


def _name(code: CodeType) -> str:
    """Function, and the last two parts of its file's path."""
    return f"{code.co_qualname} {'/'.join(Path(code.co_filename).parts[-2:])}"


def main(module: str = "benchmarks.gpu.sampler") -> None:
    """``module`` is what the supervisor's children run; its ``main`` calls this one."""
    import service.cli  # first, because it ignores the signal that the profiler waits for

    if folder := os.environ.get(PROFILES):
        start(Path(folder) / f"{os.getpid()}.json")
    name = "" if sys.argv[1] == "serve" else sys.argv[2]
    if name.startswith("worker"):
        from service.processes import worker_process

        worker_process.main()
    elif name.startswith("engine"):
        from service.processes import engine_process

        engine_process.main()
    else:
        from service.processes import generation

        generation.ENGINE_MODULE = generation.WORKER_MODULE = module
        service.cli.main()


if __name__ == "__main__":
    main()
