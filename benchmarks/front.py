"""How many cores feed one large device: the real front, before an engine that only costs the time of a GPU.

``python -m benchmarks.front``. A batch of n takes 0.4 ms + n × 0.03 ms, one batch at a time, and no processor time.
Everything else is the service: supervisor, workers, JPEGs, slots, engine loop. Processor time is read per thread: a
worker's main thread is HTTP and its side of the wire, its others decode; an engine's main thread takes records, its
others run batches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

import uvloop

from benchmarks import load, photos
from benchmarks.large_device import BATCH, IMAGE_S, LAUNCH_S
from benchmarks.processes import Cpu, Server, descendants, environment
from benchmarks.report import bullets, table
from service.host.cores import available_cores

#: What ``mobilenet-service serve`` is started with, with this module in the engine's place.
_PROGRAM = """
from service.processes import supervisor
supervisor.ENGINE_MODULE = "benchmarks.large_device"
from service.cli import main
import sys
sys.argv[0] = "mobilenet-service"
main()
"""


class Cost(NamedTuple):
    """Processor time of one request, in microseconds."""

    http: float
    decode: float
    wire: float
    engine: float

    @property
    def together(self) -> float:
        return sum(self)


def processes(server: Server) -> dict[str, list[Cpu]]:
    """What workers and engines have used."""
    found: dict[str, list[Cpu]] = {"worker": [], "engine": []}
    for pid, name in descendants(server.process.pid):
        for kind, used in found.items():
            if name.startswith(f"mnet-{kind}"):
                used.append(Cpu.of(pid))
    return found


def _cost(before: dict[str, list[Cpu]], after: dict[str, list[Cpu]], requests: int) -> Cost:
    spent = {
        kind: [
            sum(values)
            for values in zip(*(b.since(a) for a, b in zip(before[kind], after[kind], strict=True)), strict=True)
        ]
        for kind in before
    }
    scaled = [spent[kind][part] / requests * 1e6 for kind in ("worker", "engine") for part in (0, 1)]
    return Cost(*scaled)


async def measure(server: Server, bodies: Sequence[bytes], *, seconds: float, concurrency: int) -> tuple[float, Cost]:
    requests = load.requests(server.url, "/classify", bodies)
    await load.closed_loop(server.url, requests, concurrency=concurrency, seconds=1)
    before = processes(server)
    sample = await load.closed_loop(server.url, requests, concurrency=concurrency, seconds=seconds)
    assert set(sample.statuses) == {200}, sample.statuses
    return sample.rate, _cost(before, processes(server), sample.statuses[200])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--workers", default="1,2", help="numbers of workers, separated by commas")
    parser.add_argument("--concurrency", type=int, default=64)
    given = parser.parse_args()
    rows, costs = [], []
    for size in (photos.STANDARD, "224x224"):
        bodies = photos.collection(size, 8)
        for workers in map(int, given.workers.split(",")):
            arguments = (
                "--workers",
                str(workers),
                "--devices",
                "cpu",
                "--max-batch-size",
                str(BATCH),
                "--runners",
                "2",
            )
            with Server(*arguments, program=("-c", _PROGRAM)) as server:
                rate, cost = uvloop.run(measure(server, bodies, seconds=given.seconds, concurrency=given.concurrency))
            costs.append(cost)
            rows.append([size, str(workers), f"{rate:.0f}", *(f"{part:.0f}" for part in cost), f"{cost.together:.0f}"])
    device = BATCH / (LAUNCH_S + IMAGE_S * BATCH)
    head = ["JPEGs", "workers", "images/s", "HTTP µs", "decode µs", "wire µs", "engine µs", "together µs"]
    sys.stdout.write("\n".join([*bullets(environment([])), "", table(head, rows), ""]))
    for size, cost in ((photos.STANDARD, costs[0]), ("224x224", costs[len(costs) // 2])):
        cores = device * cost.together / 1e6
        sys.stdout.write(f"{size}: a device of {device:.0f} images/s needs {cores:.0f} cores\n")
    sys.stdout.write(f"measured with the load generator on the same {available_cores()} cores\n")


if __name__ == "__main__":
    main()
