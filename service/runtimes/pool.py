"""A pool of resources of a device, each for one thread at a time."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Lends each calling thread a member; blocks while all members are lent.

    Last in, first out: under light load the same member is used again, whose memory is still in the cache.
    """

    def __init__(self, members: Iterable[T]) -> None:
        self._members: queue.LifoQueue[T] = queue.LifoQueue()
        for member in members:
            self._members.put(member)

    @contextmanager
    def lease(self) -> Iterator[T]:
        member = self._members.get()
        try:
            yield member
        finally:
            self._members.put(member)
