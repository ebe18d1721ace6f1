"""Devices' resources that one thread at a time may use, lent for the length of one call."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Hands each calling thread a member of its own for the length of one call; waits where all are out.

    Last in, first out: a lightly loaded service keeps using the same member, whose memory is in the cache.
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
