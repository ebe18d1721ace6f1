"""One process compared with workers and an engine, with the real model on the same cores, in turns.

``python -m benchmarks.shapes``. Throughput at 32 at once, latency of one at a time, and memory.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from statistics import median

import uvloop

from benchmarks import load, photos, turns
from benchmarks.processes import Server, descendants, environment, tree_memory
from benchmarks.report import bullets, ratio, spread, table

ONE = "one process"
SHAPES = {
    ONE: (),
    "1 worker, 1 engine": ("--workers", "1", "--devices", "cpu"),
    "2 workers, 1 engine": ("--workers", "2", "--devices", "cpu"),
}


def main() -> None:
    given = turns.parser(__doc__, rounds=6, seconds=3.0).parse_args()
    bodies = photos.collection(photos.STANDARD, 8)
    with ExitStack() as running:
        servers = {name: running.enter_context(Server(*arguments)) for name, arguments in SHAPES.items()}
        targets = {
            name: turns.Target(server.url, load.requests(server.url, "/classify", bodies), given.concurrency)
            for name, server in servers.items()
        }
        found = uvloop.run(turns.measure(targets, rounds=given.rounds, seconds=given.seconds, alone=given.seconds / 4))
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
    head = ["", f"images/s at {given.concurrency}", "over one process", "p50 of one at a time", "memory"]
    sys.stdout.write("\n".join([*bullets(environment(["openvino"])), "", table(head, rows), ""]))
    sys.stdout.write(f"memory of each process of the last: {', '.join(memory)}\n")


if __name__ == "__main__":
    main()
