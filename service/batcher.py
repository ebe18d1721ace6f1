"""The queue between decoded images and runners.

Items come from the engine's ``infer`` (event loop); batches go to runner threads. Work-conserving: an idle runner
takes what is there, at once, up to ``max_batch_size`` and no more than its share when other runners idle too. A
positive ``max_queue_delay`` lets a lone item wait for company, counted from the oldest item's arrival.

Runners may also be given jobs (decoding, on a CPU that has no threads to spare for it). Batches go first: what has
been started is finished before more is begun.

What nobody waits for any more is dropped at dequeue, so that it costs no inference: cancelled items silently,
expired ones through ``on_expired``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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


#: Work that is not an image: called once by a runner, must not raise.
Job = Callable[[], None]


class Batch(NamedTuple):
    """What a runner gets."""

    items: list[Item]
    alone: bool  # nothing else is queued, and no other runner is at work


class Batcher:
    """A queue of items, and of jobs, bounded by admission; thread-safe."""

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
        self._jobs: deque[Job] = deque()
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

    def put_job(self, job: Job) -> None:
        """Append; raises Closed after ``close``."""
        with self._changed:
            if self._closed:
                raise Closed
            self._jobs.append(job)
            self._changed.notify()

    def take(self) -> Batch | Job | None:
        """Block until there is work: a batch of 1 … max_batch_size items in arrival order, a job, or None at the end.

        Call ``done`` once the work is finished.
        """
        while True:
            with self._changed:
                self._idle += 1
                try:
                    work = self._wait_for_work()
                finally:
                    self._idle -= 1
                if work is not None:
                    self._busy += 1
            if not isinstance(work, Batch):
                return work
            if live := self._drop_dead(work.items):
                return Batch(live, work.alone)
            self.done()

    def done(self) -> None:
        """The work of the last ``take`` is finished."""
        with self._changed:
            self._busy -= 1

    def close(self) -> None:
        """Refuse new work. What is queued is still handed out, then ``take`` returns None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> tuple[list[Item], list[Job]]:
        """Close and hand back what is queued, for a last word to those who wait."""
        with self._changed:
            self._closed = True
            items, jobs = list(self._items), list(self._jobs)
            self._items.clear()
            self._jobs.clear()
            self._changed.notify_all()
        return items, jobs

    def _wait_for_work(self) -> Batch | Job | None:
        """With the lock held."""
        while True:
            remaining = self._until_batch_leaves()
            if remaining is not None and remaining <= 0:
                share = min(-(-len(self._items) // self._idle), self.max_batch_size)
                items = [self._items.popleft() for _ in range(share)]
                return Batch(items, alone=not self._busy and not self._items and not self._jobs)
            if self._jobs:
                return self._jobs.popleft()
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
            if item.cancelled:
                continue
            if item.deadline <= now:
                self._on_expired(item)
            else:
                live.append(item)
        return live
