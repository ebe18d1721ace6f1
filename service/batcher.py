"""The queue between decoded images and runners.

Items come from the engine's ``infer`` (event loop); batches go to runner threads. Work-conserving: an idle runner
takes what is there, at once, up to ``max_batch_size`` and no more than its share when other runners idle too. A
positive ``max_queue_delay`` lets a lone item wait for company, counted from the oldest item's arrival.

What nobody waits for any more is dropped at dequeue, so that it costs no inference: cancelled items silently,
expired ones through ``on_expired``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Closed(Exception):
    """The batcher takes no more items."""


@dataclass(eq=False, slots=True)
class Item:
    """One image on its way through the engine."""

    image: NDArray[np.uint8]  # (S, S, 3)
    deadline: float  # time.monotonic() seconds
    reply: Any  # whatever the engine needs to answer; the batcher never looks at it
    enqueued_at: float = field(default=0.0)
    cancelled: bool = field(default=False)


class Batcher:
    """A bounded-by-admission queue of items; thread-safe."""

    def __init__(
        self,
        max_batch_size: int,
        *,
        on_expired: Callable[[Item], None],
        max_queue_delay: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_batch_size = max_batch_size
        self._delay = max_queue_delay
        self._on_expired = on_expired
        self._clock = clock
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._idle = 0  # runners inside take()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Append; raises Closed after ``close``."""
        with self._changed:
            if self._closed:
                raise Closed
            item.enqueued_at = self._clock()
            self._items.append(item)
            self._changed.notify()

    def take(self) -> list[Item] | None:
        """Block until there is work; return 1 … max_batch_size items in arrival order, or None after the last one."""
        while True:
            with self._changed:
                self._idle += 1
                try:
                    if not self._wait_for_batch():
                        return None
                    share = -(-len(self._items) // self._idle)
                    batch = [self._items.popleft() for _ in range(min(share, self.max_batch_size))]
                finally:
                    self._idle -= 1
            if live := self._drop_dead(batch):
                return live

    def close(self) -> None:
        """Refuse new items. What is queued is still handed out, then ``take`` returns None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> list[Item]:
        """Close and hand back what is queued, for a last word to those who wait."""
        with self._changed:
            self._closed = True
            items = list(self._items)
            self._items.clear()
            self._changed.notify_all()
        return items

    def _wait_for_batch(self) -> bool:
        """With the lock held: wait until a batch may leave. False: closed and empty."""
        while True:
            if not self._items:
                if self._closed:
                    return False
                self._changed.wait()
                continue
            if self._delay == 0.0 or self._closed or len(self._items) >= self.max_batch_size:
                return True
            remaining = self._items[0].enqueued_at + self._delay - self._clock()
            if remaining <= 0:
                return True
            self._changed.wait(remaining)

    def _drop_dead(self, batch: list[Item]) -> list[Item]:
        now = self._clock()
        live = []
        for item in batch:
            if item.cancelled:
                continue
            if item.deadline <= now:
                self._on_expired(item)
            else:
                live.append(item)
        return live
