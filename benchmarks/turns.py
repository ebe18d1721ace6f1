"""Measures several targets in turns, round after round: many requests at once, then one at a time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import load


class Target(NamedTuple):
    url: str
    requests: Sequence[bytes]
    at_once: int


class Measured(NamedTuple):
    rates: list[float]  # answers per second with many at once, one figure per round
    medians: list[float]  # median latency in seconds of one request at a time, one figure per round


def parser(doc: str | None, *, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """A parser with the options of all such benchmarks, and these defaults."""
    made = argparse.ArgumentParser(description=doc)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--seconds", type=float, default=seconds)
    made.add_argument("--concurrency", type=int, default=32)
    return made


async def measure(targets: dict[str, Target], *, rounds: int, seconds: float, alone: float) -> dict[str, Measured]:
    """In each round, ``seconds`` of many requests at once and ``alone`` seconds of one at a time."""
    found = {name: Measured([], []) for name in targets}
    for url, requests, at_once in targets.values():
        await load.closed_loop(url, requests, concurrency=at_once, seconds=1)
    for _ in range(rounds):
        for name, (url, requests, at_once) in targets.items():
            many = await load.closed_loop(url, requests, concurrency=at_once, seconds=seconds)
            one = await load.closed_loop(url, requests, concurrency=1, seconds=alone)
            assert set(many.statuses + one.statuses) == {200}
            found[name].rates.append(many.rate)
            found[name].medians.append(one.percentile(50))
    return found
