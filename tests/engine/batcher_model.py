"""A model of the batcher, and hypothesis's choice of what is done to the two."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple, get_args

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.engine.batcher import Batch, Batcher, Closed, Item
from service.engine.client import Priority
from service.engine.replies import Replies
from tests import fakes
from tests.waiting import Clock


def item(marker: int, deadline: float = math.inf, priority: Priority = "normal", model: str = fakes.MODEL) -> Item:
    source, receiver = fakes.given(marker), Replies()
    return Item(model, source, deadline, receiver, priority=priority, request_id=str(marker))


#: A second model.
OTHER = "other/1"


def marker_of(entry: Item) -> int:
    return int(entry.request_id)


class Foreseen(NamedTuple):
    """What the next ``take`` does."""

    batch: list[Item]  # empty: no more will come
    alone: bool
    dropped: list[Item]
    left: list[Item]


class BatcherMachine(RuleBasedStateMachine):
    """The batcher beside a model of it: a sorted list, a clock, and what its docstring says. ``tried`` counts runs."""

    tried = 0

    @initialize(most=st.integers(1, 5), of_other=st.integers(1, 5), delay=st.sampled_from([0.0, 0.0, 3.0]))
    def begin(self, most: int, of_other: int, delay: float) -> None:
        self.clock = Clock()
        self.most = {fakes.MODEL: most, OTHER: of_other}
        self.delay = delay
        self.dropped: list[Item] = []
        self.batcher = Batcher(most, on_dropped=self.dropped.append, max_queue_delay=delay, clock=self.clock)
        self.batcher.max_batch_sizes[OTHER] = of_other
        self.queue: list[Item] = []
        self.items: list[Item] = []
        self.arrived: list[float] = []  # by marker
        self.fates: Counter[int] = Counter()
        self.busy: list[Batch] = []
        self.closed = False

    @rule(
        patience=st.integers(0, 12),
        priority=st.sampled_from(get_args(Priority)),
        model=st.sampled_from([fakes.MODEL, fakes.MODEL, OTHER]),
    )
    def put(self, patience: int, priority: Priority, model: str) -> None:
        entry = item(len(self.arrived), deadline=self.clock.now + patience, priority=priority, model=model)
        if self.closed:
            with pytest.raises(Closed):
                self.batcher.put(entry)
            return
        self.batcher.put(entry)
        self.items.append(entry)
        self.queue = sorted([*self.queue, entry], key=lambda entry: entry.priority == "low")
        self.arrived.append(self.clock.now)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.queue)).cancelled = True

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.foresee() is not None)
    @rule()
    def take(self) -> None:
        foreseen = self.foresee()
        assert foreseen is not None
        already = len(self.dropped)
        batch = self.batcher.take()
        assert self.dropped[already:] == foreseen.dropped
        self.queue = foreseen.left
        self.fates.update(marker_of(entry) for entry in foreseen.dropped)
        if not foreseen.batch:
            assert batch is None
            return
        assert batch == Batch(foreseen.batch, foreseen.alone, foreseen.batch[0].model)
        self.fates.update(marker_of(entry) for entry in foreseen.batch)
        self.busy.append(batch)
        assert self.batcher.holds(batch.model)

    @precondition(lambda self: self.busy)
    @rule()
    def done(self) -> None:
        self.batcher.done(self.busy.pop())

    @precondition(lambda self: len(self.arrived) > 8)
    @rule()
    def close(self) -> None:
        self.batcher.close()
        self.closed = True

    @precondition(lambda self: len(self.arrived) > 10)
    @rule()
    def abandon(self) -> None:
        assert self.batcher.abandon() == self.queue
        self.fates.update(marker_of(entry) for entry in self.queue)
        self.queue = []
        self.closed = True

    @invariant()
    def nothing_else_is_queued(self) -> None:
        assert len(self.batcher) == len(self.queue)
        for model in (fakes.MODEL, OTHER):
            assert self.batcher.waiting(model) == sum(entry.model == model for entry in self.queue)
            assert self.batcher.holds(model) == any(entry.model == model for entry in self.queue) or any(
                batch.model == model for batch in self.busy
            )

    def teardown(self) -> None:
        self.close()
        while self.queue:
            self.take()
        assert self.batcher.take() is None
        assert self.fates == Counter(marker_of(entry) for entry in self.items)
        type(self).tried += 1

    def foresee(self) -> Foreseen | None:
        """None: it would wait."""
        queue, dropped = list(self.queue), list[Item]()
        while True:
            if not queue:
                return Foreseen([], False, dropped, []) if self.closed else None
            most = self.most[queue[0].model]
            patient = self.delay > 0 and not self.closed and len(queue) < most
            oldest = min(self.arrived[marker_of(entry)] for entry in queue)
            if patient and oldest + self.delay > self.clock.now:
                return None
            batch = [entry for entry in queue if entry.model == queue[0].model][:most]
            queue = [entry for entry in queue if entry not in batch]
            live = [entry for entry in batch if not entry.cancelled and entry.deadline > self.clock.now]
            dropped += [entry for entry in batch if entry not in live]
            if live:
                return Foreseen(live, not self.busy and not queue, dropped, queue)
