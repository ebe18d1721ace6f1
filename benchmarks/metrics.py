"""What metrics cost, in one process alone and shared among several: the updates of one request, a sample, a scrape.

``python -m benchmarks.metrics``. One request updates one counter and one histogram of requests, five stages and one
counter of images. A scrape reads one file per process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from benchmarks.report import table
from service import metrics
from service.metrics import Metrics

_ALONE = "one process alone"


def request(measured: Metrics) -> None:
    measured.requests.labels("classify", "200").inc()
    measured.request_duration.labels("classify").observe(0.004)
    model = measured.model("mobilenet_v2/1")
    for stage in model.stages.values():
        stage.observe(0.001)
    model.images("jpeg", "ok").inc()


def microseconds(call: Callable[[], object], count: int) -> float:
    """The best of five runs."""
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter() - started) / count)
    return best * 1e6


def measure(directory: str, processes: int) -> list[float]:
    if directory:
        for index in reversed(range(processes)):  # the last one is this process
            metrics.share(directory, f"worker-{index}")
            measured = Metrics()
            request(measured)
            measured.sample()
    else:
        measured = Metrics()
    return [
        microseconds(lambda: request(measured), 5000),
        microseconds(measured.sample, 500),
        microseconds(measured.render, 20),
    ]


def main() -> None:
    if len(sys.argv) == 3:
        sys.stdout.write(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
        return
    rows = []
    # In /dev/shm, as in the service: files on a disk would be written back.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as base:
        for processes in (0, 1, 4, 16):
            directory = tempfile.mkdtemp(dir=base) if processes else ""
            command = [sys.executable, "-m", "benchmarks.metrics", directory, str(processes)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            rows.append([f"shared by {processes}" if processes else _ALONE, *(f"{value:.1f}" for value in found)])
    sys.stdout.write(table(["", "µs per request", "µs per sample", "µs per scrape"], rows))


if __name__ == "__main__":
    main()
