"""Processes that send requests: one closed loop, its connections spread over them and over the servers' addresses."""

from __future__ import annotations

import asyncio
import os
import time
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
        # Connection n goes to the n-th address, and from the n-th process.
        shares: list[list[int]] = [[0] * len(urls) for _ in range(self._members)]
        for connection in range(concurrency):
            shares[connection // len(urls) % self._members][connection % len(urls)] += 1
        futures = [
            self._pool.submit(_ask, self._folder, list(zip(urls, share, strict=True)), seconds)
            for share in shares
            if any(share)
        ]
        return together([future.result(seconds + 2 * _LATE_S) for future in futures])


def together(samples: Sequence[Sample]) -> Sample:
    """Of loops that ran at the same time."""
    whole = load.merged(samples)
    whole.seconds = max(sample.seconds for sample in samples)
    return whole


def _pid() -> int:
    time.sleep(0.2)  # so that each member of the pool answers one
    return os.getpid()


def _ask(folder: Path, shares: Sequence[tuple[str, int]], seconds: float) -> Sample:
    bodies = photos.from_folder(folder)

    async def all_loops() -> Sample:
        loops = [
            load.closed_loop(url, load.requests(url, "/classify", bodies), concurrency=share, seconds=seconds)
            for url, share in shares
            if share
        ]
        return together(await asyncio.wait_for(asyncio.gather(*loops), seconds + _LATE_S))

    return uvloop.run(all_loops())
