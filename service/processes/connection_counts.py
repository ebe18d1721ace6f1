"""How many connections each worker has, in memory that all of them share: who has fewest should take the next."""

from __future__ import annotations

import mmap
import os

import numpy as np

#: In the place of a worker that is not there, or does not listen yet.
_NOBODY = 2**32 - 1


class ConnectionCounts:
    """``places`` numbers; each worker writes its own. A number that is read while it changes is the old or the new."""

    def __init__(self, descriptor: int, places: int) -> None:
        self.descriptor = descriptor
        self._counts = np.frombuffer(mmap.mmap(descriptor, 4 * places), np.uint32)

    @classmethod
    def create(cls, places: int) -> ConnectionCounts:
        descriptor = os.memfd_create("mobilenet-connections", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, 4 * places)
        counts = cls(descriptor, places)
        counts._counts[:] = _NOBODY
        return counts

    def tell(self, place: int, connections: int) -> None:
        self._counts[place] = connections

    def leave(self, place: int) -> None:
        """Its worker is gone; the supervisor says so, since a dead one cannot."""
        self._counts[place] = _NOBODY

    def fewest(self) -> int:
        return int(self._counts.min())
