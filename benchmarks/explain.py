"""What class maps cost: ``/explain`` beside ``/classify`` on the same server, taking turns.

``python -m benchmarks.explain``. The picture (``Accept: image/png``) decodes nothing twice, but draws and compresses.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from statistics import median

import uvloop

from benchmarks import load, photos
from benchmarks.processes import Server, environment
from benchmarks.report import ratio, spread, table

CLASSIFY = "/classify"
FORMS = {
    CLASSIFY: ("/classify", ""),
    "/explain": ("/explain", ""),
    "/explain?class=284": ("/explain?class=284", ""),
    "/explain?embedding=true": ("/explain?embedding=true", ""),
    "/explain as image/png": ("/explain", "Accept: image/png\r\n"),
}


async def measure(
    url: str, *, rounds: int, seconds: float, concurrency: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Requests a second with ``concurrency`` at once (a picture: two), and the median's seconds with one at a time."""
    bodies = photos.collection(photos.STANDARD, 8)
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in FORMS}
    await load.closed_loop(url, load.requests(url, CLASSIFY, bodies), concurrency=concurrency, seconds=1)
    for _ in range(rounds):
        for name, (path, headers) in FORMS.items():
            prepared = load.requests(url, path, bodies, headers=headers)
            at_once = 2 if headers else concurrency  # more would be refused: they are drawn one at a time
            many = await load.closed_loop(url, prepared, concurrency=at_once, seconds=seconds)
            one = await load.closed_loop(url, prepared, concurrency=1, seconds=seconds / 2)
            assert set(many.statuses + one.statuses) == {200}
            found[name][0].append(many.rate)
            found[name][1].append(one.percentile(50))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--concurrency", type=int, default=32)
    given = parser.parse_args()
    with Server() as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        work = measure(server.url, rounds=given.rounds, seconds=given.seconds, concurrency=given.concurrency)
        found = runner.run(work)
    rows = [
        [
            name,
            spread(rates),
            f"{1 / ratio(rates, found[CLASSIFY][0]):.3f}",
            f"{median(latencies) * 1e3:.2f} ms",
            f"{ratio(latencies, found[CLASSIFY][1]):.3f}",
        ]
        for name, (rates, latencies) in found.items()
    ]
    for name, value in environment(["openvino"]).items():
        sys.stdout.write(f"* {name}: {value}\n")
    head = ["", f"requests/s at {given.concurrency}", "time over /classify", "p50 of one at a time", "over /classify"]
    sys.stdout.write("\n" + table(head, rows) + "\n")


if __name__ == "__main__":
    main()
