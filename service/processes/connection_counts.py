"""How many connections each worker has, in shared memory: the worker with the fewest should accept the next one."""

from __future__ import annotations

import mmap
import os

import numpy as np

#: The count of a worker that is not running or does not listen yet.
_NOT_LISTENING = 2**32 - 1


class ConnectionCounts:
    """One number per worker, written by it alone. A read during a write gives the old number or the new one."""

    def __init__(self, descriptor: int, workers: int) -> None:
        self.descriptor = descriptor
        self._counts = np.frombuffer(mmap.mmap(descriptor, 4 * workers), np.uint32)

    @classmethod
    def create(cls, workers: int) -> ConnectionCounts:
        descriptor = os.memfd_create("mobilenet-connections", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, 4 * workers)
        counts = cls(descriptor, workers)
        counts._counts[:] = _NOT_LISTENING
        return counts

    def set(self, worker: int, connections: int) -> None:
        self._counts[worker] = connections

    def clear(self, worker: int) -> None:
        """For the supervisor, after the worker has ended."""
        self._counts[worker] = _NOT_LISTENING

    def fewest(self) -> int:
        return int(self._counts.min())
