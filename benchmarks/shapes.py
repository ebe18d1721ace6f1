"""One process against workers and an engine, with the real model on the same cores, taking turns.

``python -m benchmarks.shapes``. Throughput at 32 at once, latency of one at a time, and memory.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import ExitStack
from statistics import median

import uvloop

from benchmarks import load, photos
from benchmarks.processes import Server, descendants, environment, tree_memory
from benchmarks.report import ratio, spread, table

ONE = "one process"
SHAPES = {
    ONE: (),
    "1 worker, 1 engine": ("--workers", "1", "--devices", "cpu"),
    "2 workers, 1 engine": ("--workers", "2", "--devices", "cpu"),
}


async def measure(
    servers: dict[str, Server], *, rounds: int, seconds: float, concurrency: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Requests a second, and seconds of the median request when there is one at a time; by rounds."""
    bodies = photos.collection(photos.STANDARD, 8)
    requests = {name: load.requests(server.url, "/classify", bodies) for name, server in servers.items()}
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in servers}
    for name, server in servers.items():
        await load.closed_loop(server.url, requests[name], concurrency=concurrency, seconds=1)
    for _ in range(rounds):
        for name, server in servers.items():
            many = await load.closed_loop(server.url, requests[name], concurrency=concurrency, seconds=seconds)
            one = await load.closed_loop(server.url, requests[name], concurrency=1, seconds=seconds / 4)
            assert set(many.statuses + one.statuses) == {200}
            found[name][0].append(many.rate)
            found[name][1].append(one.percentile(50))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--concurrency", type=int, default=32)
    given = parser.parse_args()
    with ExitStack() as running:
        servers = {name: running.enter_context(Server(*arguments)) for name, arguments in SHAPES.items()}
        work = measure(servers, rounds=given.rounds, seconds=given.seconds, concurrency=given.concurrency)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(work)
        rows = [
            [
                name,
                spread(rates),
                f"{ratio(rates, found[ONE][0]):.3f}",
                f"{median(latencies) * 1e3:.1f} ms",
                f"{tree_memory(servers[name].process.pid):.0f} MiB",
            ]
            for name, (rates, latencies) in found.items()
        ]
        members = descendants(servers["2 workers, 1 engine"].process.pid)
        memory = [f"{name.removeprefix('mnet-')} {tree_memory(pid):.0f} MiB" for pid, name in members]
    for name, value in environment(["openvino"]).items():
        sys.stdout.write(f"* {name}: {value}\n")
    head = ["", f"images/s at {given.concurrency}", "over one process", "p50 of one at a time", "memory"]
    sys.stdout.write("\n" + table(head, rows) + "\n")
    sys.stdout.write(f"after it: {', '.join(memory)}\n")


if __name__ == "__main__":
    main()
