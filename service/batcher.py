"""The queue between requests and runners.

Items come from the engine's ``infer`` or, decoded, from its decode pool; batches go to runner threads.
Work-conserving: an idle runner takes what is there, at once, up to ``max_batch_size`` and no more than its share when
other runners idle too. A positive ``max_queue_delay`` lets a lone item wait for company, counted from the oldest
item's arrival.

What nobody waits for any more, cancelled or expired, is dropped at dequeue, so that it costs neither decoding nor
inference; ``on_dropped`` learns of it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.image import Prepared


class Closed(Exception):
    """The batcher takes no more items."""


@dataclass(eq=False, slots=True)
class Item:
    """One image on its way through the engine."""

    prepare: Callable[[], Prepared]  # decodes it; called once, on whichever thread gets to it
    deadline: float  # time.monotonic() seconds
    reply: Any  # whatever the engine needs to answer; the batcher never looks at it
    pixels: int | None = None  # that ``prepare`` decodes, if that is known
    created_at: float = 0.0
    request_id: str = ""  # for the log
    classes: Sequence[int] = ()  # whose maps are wanted
    prepared: Prepared | None = None
    prepare_s: float = 0.0  # how long ``prepare`` took
    enqueued_at: float = 0.0
    cancelled: bool = False


class Batch(NamedTuple):
    """What a runner gets."""

    items: list[Item]
    alone: bool  # nothing else is queued, and no other runner is at work


class Batcher:
    """A queue of items, bounded by admission; thread-safe."""

    def __init__(
        self,
        max_batch_size: int,
        *,
        on_dropped: Callable[[Item], None],
        max_queue_delay: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_batch_size = max_batch_size
        self._delay = max_queue_delay
        self._on_dropped = on_dropped
        self._clock = clock
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._idle = 0  # runners inside take()
        self._busy = 0  # runners between take() and done()
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

    def take(self) -> Batch | None:
        """Block until there is work; return 1 … max_batch_size items in arrival order, or None after the last one.

        Call ``done`` once the batch is finished.
        """
        while True:
            with self._changed:
                self._idle += 1
                try:
                    batch = self._wait_for_batch()
                finally:
                    self._idle -= 1
                if batch is not None:
                    self._busy += 1
            if batch is None:
                return None
            if live := self._drop_dead(batch.items):
                return Batch(live, batch.alone)
            self.done()

    def done(self) -> None:
        """The batch of the last ``take`` is finished."""
        with self._changed:
            self._busy -= 1

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

    def _wait_for_batch(self) -> Batch | None:
        """With the lock held: wait until a batch may leave. None: closed and empty."""
        while True:
            remaining = self._until_batch_leaves()
            if remaining is not None and remaining <= 0:
                share = min(-(-len(self._items) // self._idle), self.max_batch_size)
                items = [self._items.popleft() for _ in range(share)]
                return Batch(items, alone=not self._busy and not self._items)
            if self._closed and not self._items:
                return None
            self._changed.wait(remaining)

    def _until_batch_leaves(self) -> float | None:
        """Seconds that the queued items may still wait for company; None if there are none."""
        if not self._items:
            return None
        if self._delay == 0.0 or self._closed or len(self._items) >= self.max_batch_size:
            return 0.0
        return self._items[0].enqueued_at + self._delay - self._clock()

    def _drop_dead(self, batch: list[Item]) -> list[Item]:
        now = self._clock()
        live = []
        for item in batch:
            if item.cancelled or item.deadline <= now:
                self._on_dropped(item)
            else:
                live.append(item)
        return live
