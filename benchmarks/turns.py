"""Measures several targets in turns, round after round: many requests at once, then one at a time.

python -m benchmarks.turns forms [--size 4000x3000]    /classify against the forms of /explain, on one server
python -m benchmarks.turns shapes                      one process against workers and an engine
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

import uvloop

from benchmarks import load, photos
from benchmarks.processes import Server, descendants, environment, tree_memory
from benchmarks.report import bullets, ratio, spread, table
from service.host.cores import available_cores

FORMS = {
    "/classify": "",
    "/explain": "",
    "/explain?class=284": "",
    "/explain?embedding=true": "",
    "/explain as image/png": "Accept: image/png\r\n",
}
SHAPES = {
    "one process": "",
    "1 worker, 1 engine": "--workers 1 --devices cpu",
    "2 workers, 1 engine": "--workers 2 --devices cpu",
}
_CORES = available_cores()
#: The default is the first.
RUNNERS = {
    f"{runners} runners of {threads} threads": f"--runners {runners} --threads-per-runner {threads}"
    for runners, threads in ((_CORES, 1), (1, _CORES), (_CORES + 1, 1), (_CORES, _CORES))
}


class Target(NamedTuple):
    url: str
    requests: Sequence[bytes]
    cpu: Callable[[], float] = lambda: 0.0  # seconds of CPU time of whatever is observed beside it


class Measured(NamedTuple):
    """One figure per round."""

    rates: list[float]  # answers per second with many at once
    medians: list[float]  # median latency in seconds of one request at a time
    cpu: list[float]  # seconds of the target's ``cpu`` per answer, with many at once


def parser(doc: str | None, *, rounds: int, seconds: float) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--seconds", type=float, default=seconds)
    made.add_argument("--concurrency", type=int, default=32)
    return made


async def measure(targets: dict[str, Target], given: argparse.Namespace) -> dict[str, Measured]:
    """In each of ``rounds``, ``seconds`` of many requests at once and half of that of one at a time."""
    seconds: float = given.seconds
    measured = {name: Measured([], [], []) for name in targets}
    for target in targets.values():
        await load.closed_loop(target.url, target.requests, concurrency=given.concurrency, seconds=1)
    for _ in range(given.rounds):
        for name, (url, requests, cpu) in targets.items():
            used = cpu()
            many = await load.closed_loop(url, requests, concurrency=given.concurrency, seconds=seconds)
            used = cpu() - used
            one = await load.closed_loop(url, requests, concurrency=1, seconds=seconds / 2)
            assert set(many.statuses + one.statuses) == {200}, many.statuses + one.statuses
            measured[name].rates.append(many.rate)
            measured[name].medians.append(one.percentile(50))
            measured[name].cpu.append(used / many.statuses[200])
    return measured


def main() -> None:
    arguments = parser(__doc__, rounds=6, seconds=3.0)
    arguments.add_argument("what", choices=["forms", "shapes", "runners"])
    arguments.add_argument("--size", choices=photos.SIZES, default=photos.STANDARD)
    given = arguments.parse_args()
    bodies = photos.collection(given.size, 8)
    with ExitStack() as running:
        if given.what == "forms":
            servers = dict.fromkeys(FORMS, running.enter_context(Server()))
        else:
            compared = SHAPES if given.what == "shapes" else RUNNERS
            servers = {name: running.enter_context(Server(*options.split())) for name, options in compared.items()}
        targets = {}
        for name, server in servers.items():
            path, headers = (name.split()[0], FORMS[name]) if name in FORMS else ("/classify", "")
            targets[name] = Target(server.url, load.requests(server.url, path, bodies, headers=headers))
        measured = uvloop.run(measure(targets, given))
        first = next(iter(measured.values()))
        rows = [
            [
                name,
                spread(rates),
                f"{ratio(rates, first.rates):.3f}",
                f"{median(medians) * 1e3:.2f} ms",
                f"{ratio(medians, first.medians):.3f}",
                f"{tree_memory(servers[name].process.pid):.0f} MiB",
            ]
            for name, (rates, medians, _) in measured.items()
        ]
        last = [f"{name} {tree_memory(pid):.0f} MiB" for pid, name in descendants(server.process.pid).items()]
    head = ["", f"requests/s at {given.concurrency}", "over the first", "p50 of one at a time", "over the first"]
    sys.stdout.write("\n".join([*bullets(environment(["openvino"])), "", table([*head, "memory"], rows), ""]))
    if last:
        sys.stdout.write(f"processes of the last: {', '.join(last)}\n")


if __name__ == "__main__":
    main()
