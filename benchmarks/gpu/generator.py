"""Processes that send requests: one closed loop, its connections spread over them and over the servers' addresses."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import uvloop

from benchmarks import load, photos
from benchmarks.load import Sample

#: After a measurement, for answers that are late: the service's own limit of a request, and some.
_LATE_S = 12.0


class Generator:
    """Processes that ask; what they send lies in ``folder``."""

    def __init__(self, pool: ProcessPoolExecutor, folder: Path, bodies: list[bytes], members: int) -> None:
        self._pool = pool
        self._members = members
        self._folder = folder
        photos.save(folder, bodies)
        self.pids = {future.result() for future in [pool.submit(_pid) for _ in range(members)]}

    def run(self, urls: Sequence[str], concurrency: int, seconds: float) -> Sample:
        shares = spread(urls, concurrency, self._members)
        futures = [self._pool.submit(_ask, self._folder, share, seconds) for share in shares if share]
        return together([future.result(seconds + 2 * _LATE_S) for future in futures])


def spread(urls: Sequence[str], connections: int, members: int) -> list[Counter[str]]:
    """How many connections to each address each member opens: number n goes to the n-th address, members in turn."""
    shares = [Counter[str]() for _ in range(members)]
    for connection in range(connections):
        shares[connection // len(urls) % members][urls[connection % len(urls)]] += 1
    return shares


def together(samples: Sequence[Sample]) -> Sample:
    """Of loops that ran at the same time."""
    whole = load.merged(samples)
    whole.seconds = max(sample.seconds for sample in samples)
    return whole


def _pid() -> int:
    time.sleep(0.2)  # so that each member of the pool answers one
    return os.getpid()


def _ask(folder: Path, share: Counter[str], seconds: float) -> Sample:
    bodies = photos.from_folder(folder)

    async def all_loops() -> Sample:
        loops = [
            load.closed_loop(url, load.requests(url, "/classify", bodies), concurrency=count, seconds=seconds)
            for url, count in share.items()
        ]
        return together(await asyncio.wait_for(asyncio.gather(*loops), seconds + _LATE_S))

    return uvloop.run(all_loops())
