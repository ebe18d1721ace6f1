"""``mobilenet-service``, as part ``http`` starts it: with cuDNN's search limited, and a profiler that sleeps.

    python -m benchmarks.gpu.program serve …      one process, or the supervisor
    started by the supervisor                     an engine or a worker

The environment says how: ``BENCHMARK_SEARCH_LIMIT``, and ``BENCHMARK_PROFILES``, a folder (``sampler``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.gpu import sampler

SEARCH_LIMIT, PROFILES = "BENCHMARK_SEARCH_LIMIT", "BENCHMARK_PROFILES"


def main(module: str = "benchmarks.gpu.program") -> None:
    """``module`` is what the supervisor's children run; it has a ``main``, too."""
    name = "single" if sys.argv[1] == "serve" else sys.argv[2]
    if folder := os.environ.get(PROFILES):
        sampler.start(Path(folder) / f"{os.getpid()}.json")
    if name.startswith("worker"):
        from service.processes import worker_process as worker

        worker.main()
    elif name.startswith("engine"):
        limit_search()
        from service.processes import engine_process as engine

        engine.main()
    elif "--workers" in sys.argv:
        from service.processes import supervisor

        supervisor.ENGINE_MODULE = supervisor.WORKER_MODULE = module
        _serve()
    else:
        limit_search()
        _serve()


def _serve() -> None:
    from service.cli import main as service_main

    service_main()


def limit_search() -> None:
    if limit := os.environ.get(SEARCH_LIMIT):
        from service.runtimes.torch import replay as torch_replay

        torch_replay.SEARCH_LIMIT = int(limit)


if __name__ == "__main__":
    main()
