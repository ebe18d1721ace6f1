"""Targets that take turns, round after round: many requests at once, then one at a time."""

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
    rates: list[float]  # answers a second with many at once, by rounds
    medians: list[float]  # seconds of the median request when there is one at a time, by rounds


def parser(doc: str | None, *, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """The options that all such benchmarks have, with these defaults."""
    made = argparse.ArgumentParser(description=doc)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--seconds", type=float, default=seconds)
    made.add_argument("--concurrency", type=int, default=32)
    return made


async def measure(targets: dict[str, Target], *, rounds: int, seconds: float, alone: float) -> dict[str, Measured]:
    """``seconds`` of many at once and ``alone`` seconds of one at a time, each round."""
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
