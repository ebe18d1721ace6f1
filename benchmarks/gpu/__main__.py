"""Options and budget of ``python -m benchmarks.gpu``, the head of its report and the end. Imports no torch."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from benchmarks.gpu import parts
from benchmarks.gpu.part import PROGRAM, Options
from benchmarks.gpu.parts import Part
from benchmarks.processes import environment, output
from benchmarks.report import RESULTS, bullets, table

#: In the order of what they decide.
PARTS = [
    Part("start", "benchmarks.gpu.start", "Start", 55),
    Part("http", "benchmarks.gpu.served", "JPEGs over HTTP", 190),
    Part("device", "benchmarks.gpu.device", "The device alone", 35),
    Part("answers", "benchmarks.gpu.answers", "Answers", 15),
    Part("tests", "benchmarks.gpu.suite", "Tests marked gpu", 35),
]
_NAMES = ",".join(part.name for part in PARTS)


def main(arguments: Sequence[str] | None = None, known: Sequence[Part] = PARTS) -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What a GPU does for the service.")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds, everything included; default 300")
    parser.add_argument("--device", default="cuda:0", help="cpu: a smoke run")
    parser.add_argument("--images", help="folder of JPEGs to use in place of synthetic 500×375 ones")
    parser.add_argument("--parts", default=_NAMES, help=f"default {_NAMES}")
    parser.add_argument("--server", default=PROGRAM, metavar="MODULE", help="that is the service, for part http")
    parser.add_argument("--save", nargs="?", const="", metavar="PATH", help="default results/gpu-<card>.md")
    given = parser.parse_args(arguments)
    names = given.parts.split(",")
    if unknown := set(names) - {part.name for part in known}:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    options = Options(given.device, images=given.images, program=given.server)

    # As the driver's own tool prints it.
    card = output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    card = (card.splitlines() or ["a GPU"])[0] if options.gpu else "CPU"
    outputs: list[IO[str]] = [sys.stdout]
    if given.save is not None:
        slug = re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
        outputs.append(Path(given.save or RESULTS / f"gpu-{slug}.md").open("w"))  # noqa: SIM115  # until the end

    def write(text: str) -> None:
        for file in outputs:
            file.write(text)
            file.flush()

    def stop(number: int, frame: object) -> None:
        for signalled in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signalled, signal.SIG_IGN)
        raise KeyboardInterrupt

    for signalled in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signalled, stop)
    write(_head(card, options, given.budget))
    outcomes = parts.run([part for part in known if part.name in names], options, given.budget, started, write)
    write("## Outcome\n\n")
    rows = [[outcome.part.name, f"{outcome.seconds:.0f}", outcome.outcome] for outcome in outcomes]
    rows.append(["all", f"{time.monotonic() - started:.0f}", f"of {given.budget:.0f}"])
    write(table(["part", "seconds", "outcome"], rows) + "\n")
    write("".join(f"* {outcome.decision}\n" for outcome in outcomes if outcome.decision))
    sys.exit(0 if all(outcome.outcome == "ok" for outcome in outcomes) else 1)


def _head(card: str, options: Options, budget: float) -> str:
    facts = environment(["torch", "torchvision", "numpy"])
    facts["photos"] = "given" if options.images else "synthetic, 500×375"
    facts["load generator"] = "on the same cores"
    facts["budget"] = f"{budget:.0f} s"
    smoke = "" if options.gpu else "**A smoke run on the CPU: none of its figures says anything about a GPU.**\n\n"
    return f"# {card}\n\n{smoke}" + "\n".join(bullets(facts)) + "\n\n"


if __name__ == "__main__":
    main()
