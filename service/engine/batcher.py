"""The queue between requests and runners.

Items come from the engine's ``infer`` or, decoded, from its decode pool; batches go to runner threads.
Work-conserving: an idle runner immediately takes queued items, up to ``max_batch_size``, and only its share if other
runners are idle, too. With a positive ``max_queue_delay`` it waits for a full batch until the oldest item is that old.
Items of low priority are taken only when no other item waits. A batch is of one model: that of the item it begins with.

Cancelled and expired items are dropped at dequeue, so that they cost neither decoding nor inference.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, Protocol

from service.engine.client import Decode, InferResult, Priority, Source, expired
from service.errors import ServiceError


class Closed(Exception):
    """The batcher accepts no more items."""


@dataclass(eq=False, slots=True)
class Item:
    """One image on its way through the engine."""

    model: str  # name/version
    source: Source  # pixels once a pool has decoded it
    deadline: float  # time.monotonic() seconds
    receiver: Receiver
    classes: Sequence[int] = ()  # to compute maps of
    priority: Priority = "normal"
    request_id: str = ""  # for the log
    created_at: float = 0.0
    decode_s: float = 0.0
    enqueued_at: float = 0.0
    cancelled: bool = False

    def abandon(self) -> None:
        """The caller no longer waits: release the image's bytes even if a queue still holds the item."""
        self.cancelled = True
        self.source = _ABANDONED


def _give_up() -> NoReturn:
    raise expired()


_ABANDONED = Decode(_give_up)

#: Answers of a batch, or of a part of it.
Answers = list[tuple[Item, InferResult | ServiceError]]


class Receiver(Protocol):
    """Gets the answers of items that name it."""

    def deliver(self, answers: Answers) -> None:
        """Called on whichever thread has the answers; must not block."""


def deliver(answers: Answers) -> None:
    """Pass each answer to its item's receiver, in one call per receiver."""
    groups: dict[Receiver, Answers] = {}
    for answer in answers:
        groups.setdefault(answer[0].receiver, []).append(answer)
    for receiver, group in groups.items():
        receiver.deliver(group)


class Batch(NamedTuple):
    """The items that a runner runs together."""

    items: list[Item]
    alone: bool  # nothing else is queued, and no other runner is busy
    model: str  # of all of them


class Batcher:
    """A thread-safe queue of items; admission limits its length."""

    def __init__(
        self,
        max_batch_size: int,
        *,
        on_dropped: Callable[[Item], None],
        max_queue_delay: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_batch_size = max_batch_size
        #: By model, where that differs.
        self.max_batch_sizes: dict[str, int] = {}
        self._delay = max_queue_delay
        self._on_dropped = on_dropped
        self._clock = clock
        #: First the one that is served first.
        self._queues: dict[Priority, deque[Item]] = {"normal": deque(), "low": deque()}
        self._changed = threading.Condition()
        self._idle = 0  # runners inside take()
        self._busy: list[str] = []  # for each runner between take() and done(), its model
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def holds(self, model: str) -> bool:
        """Whether an item of ``model`` is queued, or a runner busy with it."""
        with self._changed:
            return model in self._busy or self._count(model) > 0

    def waiting(self, model: str) -> int:
        with self._changed:
            return self._count(model)

    def _count(self, model: str) -> int:
        return sum(item.model == model for queue in self._queues.values() for item in queue)

    def put(self, item: Item) -> None:
        """Append; raises Closed after ``close``."""
        with self._changed:
            if self._closed:
                raise Closed
            item.enqueued_at = self._clock()
            self._queues[item.priority].append(item)
            self._changed.notify()

    def take(self) -> Batch | None:
        """Block until there are items; return 1 to max_batch_size in order of arrival, or None when closed and empty.

        Call ``done`` with the batch once it is finished.
        """
        while True:
            with self._changed:
                self._idle += 1
                try:
                    batch = self._wait_for_batch()
                finally:
                    self._idle -= 1
                if batch is not None:
                    self._busy.append(batch.model)
            if batch is None:
                return None
            if live := self._drop_dead(batch.items):
                return Batch(live, batch.alone, batch.model)
            self.done(batch)

    def done(self, batch: Batch) -> None:
        """To be called when ``batch``, from ``take``, is finished."""
        with self._changed:
            self._busy.remove(batch.model)

    def close(self) -> None:
        """Refuse new items. ``take`` still returns queued items, then None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> list[Item]:
        """Close and return the queued items, which their receivers still expect answers to."""
        with self._changed:
            self._closed = True
            items = [item for queue in self._queues.values() for item in queue]
            for queue in self._queues.values():
                queue.clear()
            self._changed.notify_all()
        return items

    def _wait_for_batch(self) -> Batch | None:
        """With the lock held, wait until a batch may leave; None when closed and empty."""
        while True:
            waiting = len(self)
            remaining = self._until_batch_leaves() if waiting else None
            if remaining is not None and remaining <= 0:
                model = self._first().model
                share = min(-(-waiting // self._idle), self._largest(model))
                items: list[Item] = []
                for queue in filter(None, self._queues.values()):
                    items += _pop(queue, model, share - len(items))
                return Batch(items, not self._busy and len(items) == waiting, model)
            if self._closed and not waiting:
                return None
            self._changed.wait(remaining)

    def _until_batch_leaves(self) -> float:
        """Seconds for which the queued items may still wait for more."""
        if self._delay == 0.0 or self._closed or len(self) >= self._largest(self._first().model):
            return 0.0
        oldest = min(queue[0].enqueued_at for queue in self._queues.values() if queue)
        return oldest + self._delay - self._clock()

    def _first(self) -> Item:
        return next(queue[0] for queue in self._queues.values() if queue)

    def _largest(self, model: str) -> int:
        return self.max_batch_sizes.get(model, self.max_batch_size)

    def _drop_dead(self, batch: list[Item]) -> list[Item]:
        now = self._clock()
        live = []
        for item in batch:
            if item.cancelled or item.deadline <= now:
                self._on_dropped(item)
            else:
                live.append(item)
        return live


def _pop(queue: deque[Item], model: str, most: int) -> list[Item]:
    """Take up to ``most`` items of ``model`` from ``queue``; the others keep their order."""
    items: list[Item] = []
    others: list[Item] = []
    while queue and len(items) < most:
        item = queue.popleft()
        (items if item.model == model else others).append(item)
    queue.extendleft(reversed(others))
    return items
