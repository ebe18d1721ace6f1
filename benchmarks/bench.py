"""``make bench``: the service compared with loops that have no server, in one interleaved run.

Each round measures the plain loop, our own loop, one image at a time, and the server at each concurrency, so that a
drift in the machine's speed affects all alike. Rates are medians over rounds; ratios are medians of the rounds' own
ratios. After that come open loop, image sizes, memory and start-up. Prints Markdown, and writes it with plots and raw
figures to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import load, photos, report
from benchmarks.loops import Result, loop
from benchmarks.processes import Cpu, Server, environment
from benchmarks.report import RESULTS, say
from service.config import Settings
from service.errors import OperatorError
from service.model import artifact
from service.serving.build import create_runtime, engine_plan

CONCURRENCIES = (1, 8, 32, 128)
OPEN_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 1.2)
PACKAGES = ("openvino", "pillow", "numpy", "fastapi", "starlette", "uvicorn", "uvloop", "httptools")
REQUESTS_FOR_MEMORY = 10_000


def available() -> list[str]:
    """Precisions that can be served here: fp32; bf16 if the CPU has it; int8 if the artifact has such a graph."""
    settings = Settings()
    found = artifact.load(settings.model_store, settings.model, settings.version)
    usable = []
    for precision in ("fp32", "bf16", "int8"):
        try:
            create_runtime(engine_plan(settings.model_copy(update={"precision": precision})).options, found).close()
            usable.append(precision)
        except OperatorError as reason:
            say(f"without {precision}: {reason}")
    return usable


class Bench:
    """One run; ``figures`` collects what the report shows."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.rounds: int = arguments.rounds
        self.seconds: float = arguments.seconds
        self.precisions: list[str] = arguments.precision.split(",") if arguments.precision else available()
        chosen, small = photos.requested(arguments.images, 32), photos.collection("224x224", 32)
        middle, large = photos.collection("1280x960", 16), photos.collection("4000x3000", 4)
        # Of ten photos six are ordinary, three small or medium-sized, and one is as a phone takes it.
        mix = [*chosen[:12], *small[:3], *middle[:3], *large[:2]]
        self.bodies = {photos.STANDARD: chosen, "224x224": small, "1280x960": middle, "4000x3000": large, "mix": mix}
        self.files = {size: folder / size for size in self.bodies}
        for size, path in self.files.items():
            photos.save(path, self.bodies[size])
        photo_bytes = {size: round(statistics.mean(map(len, bodies))) for size, bodies in self.bodies.items()}
        self.figures: dict[str, Any] = {"environment": environment(PACKAGES), "photo_bytes": photo_bytes}
        self.sent = 0

    async def closed(self, server: Server, size: str, concurrency: int, seconds: float) -> load.Sample:
        prepared = load.requests(server.url, "/classify", self.bodies[size])
        sample = await load.closed_loop(server.url, prepared, concurrency=concurrency, seconds=seconds)
        self.sent += sum(sample.statuses.values())
        return sample

    async def interleaved(self, server: Server, precision: str, concurrencies: Sequence[int]) -> dict[str, Any]:
        """Rounds of every loop and every concurrency; lists hold one figure per round."""
        loops: dict[str, list[Result]] = defaultdict(list)
        taken: dict[int, list[load.Sample]] = defaultdict(list)
        cpu: dict[str, list[float]] = {name: [] for name in ("event loop", "runners", "load generator")}
        await self.closed(server, photos.STANDARD, 8, 0.5)
        with ExitStack() as stack:
            running = {name: stack.enter_context(loop(name, precision)) for name in ("plain", "own", "single")}
            for turn in range(self.rounds):
                say(f"{precision}: round {turn + 1} of {self.rounds}")
                for name, measure in running.items():
                    loops[name].append(measure(self.seconds, self.files[photos.STANDARD]))
                for concurrency in concurrencies:
                    before = (*Cpu.of(server.process.pid), time.process_time())
                    sample = await self.closed(server, photos.STANDARD, concurrency, self.seconds)
                    taken[concurrency].append(sample)
                    if concurrency == 32:
                        after = (*Cpu.of(server.process.pid), time.process_time())
                        for name, then, now in zip(cpu, before, after, strict=True):
                            cpu[name].append((now - then) / sum(sample.statuses.values()))
        cpu |= {name: [result["cpu"] for result in results] for name, results in loops.items()}
        samples = {concurrency: load.merged(rounds) for concurrency, rounds in taken.items()}
        return {
            "loops": {name: [result["rate"] for result in results] for name, results in loops.items()},
            "single_p50": [result["p50"] for result in loops["single"]],
            "served": {c: [sample.rate for sample in rounds] for c, rounds in taken.items()},
            "c1_p50": [sample.percentile(50) for sample in taken[1]],
            "cpu": {name: statistics.median(values) for name, values in cpu.items()},
            "latency": {c: {str(p): s.percentile(p) for p in (50, 95, 99)} for c, s in samples.items()},
            "statuses": {c: dict(s.statuses) for c, s in samples.items()},
            "stages": {c: {stage: statistics.mean(of) for stage, of in s.stages.items()} for c, s in samples.items()},
        }

    async def open_loops(self, server: Server, capacity: float) -> list[dict[str, float]]:
        prepared = load.requests(server.url, "/classify", self.bodies[photos.STANDARD])
        rows = []
        for share in OPEN_SHARES:
            say(f"open loop at {share:.0%}")
            sample = await load.open_loop(server.url, prepared, rate=share * capacity, seconds=2 * self.seconds)
            rows.append(
                {
                    "share": share,
                    "offered": share * capacity,
                    "answered": sample.rate,
                    "refused": sum(count for status, count in sample.statuses.items() if status != 200),
                    **{f"p{p}": sample.percentile(p) for p in (50, 95, 99)},
                }
            )
        return rows

    async def sizes(self, server: Server, fast: Server) -> dict[str, dict[str, float]]:
        rows: dict[str, dict[str, float]] = {}
        with loop("own") as own, loop("own", decode="fast") as own_fast:
            for size in (*photos.SIZES, "mix"):
                say(f"images of {size}")
                rows[size] = {
                    "own": own(self.seconds, self.files[size])["rate"],
                    "served": (await self.closed(server, size, 8, self.seconds)).rate,
                    "own_fast": own_fast(self.seconds, self.files[size])["rate"],
                    "served_fast": (await self.closed(fast, size, 8, self.seconds)).rate,
                }
        return rows

    async def memory(self, server: Server) -> list[tuple[int, float]]:
        curve = [(self.sent, server.memory())]
        while self.sent < REQUESTS_FOR_MEMORY:
            await self.closed(server, photos.STANDARD, 32, 3)
            curve.append((self.sent, server.memory()))
            say(f"memory after {self.sent} requests: {curve[-1][1]:.0f} MiB")
        return curve

    async def run(self) -> dict[str, Any]:
        say("start-up")
        for _ in range(5):
            with Server() as server:
                start = {"seconds": server.start_seconds, "memory": server.memory()}
                self.figures.setdefault("start", []).append(start)
        for precision in self.precisions:
            with Server("--precision", precision) as server:
                first = server.memory()
                concurrencies = CONCURRENCIES if precision == "fp32" else (1, 32)
                measured = await self.interleaved(server, precision, concurrencies)
                self.figures.setdefault("precisions", {})[precision] = measured
                if precision == "fp32":
                    self.figures["memory"] = [(0, first), *await self.memory(server)]
                    self.figures["open"] = await self.open_loops(server, statistics.median(measured["served"][32]))
                    with Server("--decode", "fast") as fast:
                        self.figures["sizes"] = await self.sizes(server, fast)
                    self.figures["memory_after_sizes"] = server.memory()
        return self.figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement in a round")
    parser.add_argument("--precision", help="comma-separated; default: all that are available, fp32 in most detail")
    parser.add_argument("--images", type=Path, help="folder of JPEGs to send instead of synthetic ones of 500×375")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for report, plots and raw figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = uvloop.run(Bench(arguments, Path(folder)).run())
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")
    text = report.write(figures, arguments.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
