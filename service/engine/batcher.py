"""The queue between requests and runners.

Items come from the engine's ``infer`` or, decoded, from its decode pool; batches go to runner threads.
Work-conserving: an idle runner takes what is there, at once, up to ``max_batch_size`` and no more than its share when
other runners idle too. A positive ``max_queue_delay`` lets a lone item wait for company, counted from the oldest
item's arrival. Items of low priority fill a batch only when no other item waits.

Items that nobody waits for any more, cancelled or expired, are dropped at dequeue, so that they cost neither decoding
nor inference.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from service.engine.client import InferResult, Priority, Source
from service.errors import ServiceError
from service.image import Pixels


class Closed(Exception):
    """The batcher takes no more items."""


@dataclass(eq=False, slots=True)
class Item:
    """One image on its way through the engine."""

    model: str  # name/version
    source: Source
    deadline: float  # time.monotonic() seconds
    receiver: Receiver
    classes: Sequence[int] = ()  # whose maps are asked for
    priority: Priority = "normal"
    request_id: str = ""  # for the log
    created_at: float = 0.0
    pixels: Pixels | None = None  # once decoded
    decode_s: float = 0.0
    enqueued_at: float = 0.0
    cancelled: bool = False


#: The answers of one batch, or of the part of it that ran together.
Answers = list[tuple[Item, InferResult | ServiceError]]


class Receiver(Protocol):
    """Gets the answers of items that name it."""

    def deliver(self, answers: Answers) -> None:
        """Called on whichever thread has the answers; must not block."""


def deliver(answers: Answers) -> None:
    """Give each answer to its item's receiver: one call per receiver."""
    groups: dict[Receiver, Answers] = {}
    for answer in answers:
        groups.setdefault(answer[0].receiver, []).append(answer)
    for receiver, group in groups.items():
        receiver.deliver(group)


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
        self._queues: dict[Priority, deque[Item]] = {"normal": deque(), "low": deque()}  # in the order of service
        self._changed = threading.Condition()
        self._idle = 0  # runners inside take()
        self._busy = 0  # runners between take() and done()
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def put(self, item: Item) -> None:
        """Append; raises Closed after ``close``."""
        with self._changed:
            if self._closed:
                raise Closed
            item.enqueued_at = self._clock()
            self._queues[item.priority].append(item)
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
            items = [item for queue in self._queues.values() for item in queue]
            for queue in self._queues.values():
                queue.clear()
            self._changed.notify_all()
        return items

    def _wait_for_batch(self) -> Batch | None:
        """With the lock held: wait until a batch may leave. None: closed and empty."""
        while True:
            remaining = self._until_batch_leaves()
            if remaining is not None and remaining <= 0:
                share = min(-(-len(self) // self._idle), self.max_batch_size)
                items = [self._pop() for _ in range(share)]
                return Batch(items, alone=not self._busy and not len(self))
            if self._closed and not len(self):
                return None
            self._changed.wait(remaining)

    def _pop(self) -> Item:
        return next(queue for queue in self._queues.values() if queue).popleft()

    def _until_batch_leaves(self) -> float | None:
        """Seconds that the queued items may still wait for company; None if there are none."""
        waiting = len(self)
        if not waiting:
            return None
        if self._delay == 0.0 or self._closed or waiting >= self.max_batch_size:
            return 0.0
        oldest = min(queue[0].enqueued_at for queue in self._queues.values() if queue)
        return oldest + self._delay - self._clock()

    def _drop_dead(self, batch: list[Item]) -> list[Item]:
        now = self._clock()
        live = []
        for item in batch:
            if item.cancelled or item.deadline <= now:
                self._on_dropped(item)
            else:
                live.append(item)
        return live
