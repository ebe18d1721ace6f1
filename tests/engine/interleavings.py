"""Engine, batcher and runners under every order of events, over a runtime whose answers name their images.

``EngineMachine`` has one thread and makes each step of each runner a rule, so that hypothesis decides what comes
between two steps; ``run_with_threads`` has all the real threads, and hypothesis decides what they meet.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from service.batcher import Batch, Item
from service.engine import InferResult, LocalEngine, State
from service.engine.protocols import Classes, Images
from service.engine.runner import Answers, Runner
from service.errors import BadImage, DeadlineExceeded, DeviceLost, Draining, InferenceFailed, NotReady, ServiceError
from service.metrics import Metrics
from service.postprocess import BatchOutputs
from service.preprocess import Prepared
from tests.fakes import SIZE, FakeRuntime, image, marker_of

Kind = Literal["good", "undecodable", "no memory to decode", "raises", "no memory to infer", "not finite"]
_KINDS: list[Kind] = [
    "good",
    "good",
    "good",
    "undecodable",
    "no memory to decode",
    "raises",
    "no memory to infer",
    "not finite",
]
KINDS = st.sampled_from(_KINDS)

#: What a call may end with on its image's account alone.
OWN_END: dict[Kind, type[object]] = {
    "good": InferResult,
    "undecodable": BadImage,
    "no memory to decode": ServiceError,
    "raises": InferenceFailed,
    "no memory to infer": InferenceFailed,
    "not finite": InferenceFailed,
}


@pytest.fixture(autouse=True, scope="module")
def unlogged() -> Iterator[None]:
    """Import it: pytest would keep the traceback of every fault."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@dataclass(eq=False)
class Call:
    """One ``infer``: the image, and what else than its own end may become of it."""

    marker: int
    kind: Kind
    pause: Callable[[], None] = lambda: None
    begun: bool = False
    ends: set[type[object]] = field(default_factory=set)
    decoded: int = 0
    inferred: int = 0  # successful forward passes
    delivered: int = 0
    task: asyncio.Task[InferResult] | None = None

    def __call__(self) -> Prepared:
        """``Prepare``."""
        self.decoded += 1
        self.pause()
        if self.kind == "undecodable":
            raise BadImage("undecodable")
        if self.kind == "no memory to decode":
            raise MemoryError
        return Prepared(image(self.marker), "png", (), (SIZE, SIZE))

    def check(self) -> None:
        assert self.task is not None
        assert self.task.done(), f"call {self.marker} ({self.kind}) was lost"
        assert self.decoded <= 1
        assert self.inferred <= 1
        assert self.delivered <= 1
        if self.task.cancelled():
            assert asyncio.CancelledError in self.ends
            return
        end = self.task.exception() or self.task.result()
        assert type(end) in {OWN_END[self.kind], *self.ends}, f"call {self.marker} ({self.kind}): {end!r}"
        if isinstance(end, InferResult):
            assert marker_of(end.output.embedding) == self.marker, "another's answer"
            assert self.kind == "good"


class Recorder(FakeRuntime):
    """Fails as its images' calls say, or altogether, and counts what succeeds."""

    def __init__(self, calls: list[Call], *, max_batch: int, pause: Callable[[], None] = lambda: None) -> None:
        super().__init__(max_batch=max_batch)
        self._calls = calls
        self._pause = pause
        self.broken = False
        self.gone = False
        self.lost_at: int | None = None  # marker of an image with which the device goes, -1: any

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        batch = [self._calls[marker] for marker in _markers(images)]
        self._pause()
        if self.lost_at is not None and (self.lost_at == -1 or self.lost_at in _markers(images)):
            self.lost_at = -1
            self.gone = True
            raise DeviceLost("gone")
        if self.broken and batch:
            if len(batch) == 1:
                batch[0].ends.add(InferenceFailed)
            raise RuntimeError("broken")
        kinds = {call.kind for call in batch}
        if "raises" in kinds:
            raise RuntimeError("this batch")
        if "no memory to infer" in kinds:
            raise MemoryError
        outputs = super().run(images, classes=classes, alone=alone)
        for position, call in enumerate(batch):
            call.inferred += 1
            if call.kind == "not finite":
                outputs.logits[position] = np.nan
        return outputs


def _markers(images: Images) -> list[int]:
    """Of all but the canary, whose first pixel is not blue 1."""
    return [int(first[0]) + 256 * int(first[1]) for first in (image[0, 0] for image in images) if first[2] == 1]


class _Engine(LocalEngine):
    """Counts deliveries by call."""

    def _deliver(self, answers: Answers) -> None:
        for item, _ in answers:
            if isinstance(item.prepare, Call):
                item.prepare.delivered += 1
        super()._deliver(answers)


def _engine(runtime: Recorder, *, runners: int, on_fatal: Callable[[str], object], **changes: Any) -> _Engine:
    arguments: dict[str, Any] = {"max_queue_delay": 0.0, "decode_threads": 0, **changes}
    return _Engine(
        lambda: runtime,
        image_size=SIZE,
        runners=runners,
        max_batch_size=runtime.max_batch,
        metrics=Metrics(),
        on_fatal=on_fatal,
        **arguments,
    )


class EngineMachine(RuleBasedStateMachine):
    """``tried`` counts runs."""

    tried = 0

    @initialize(
        runners=st.integers(1, 3),
        max_batch=st.integers(1, 4),
        fate=st.sampled_from(["serves", "serves", "closes", "loses", "loses and closes"]),
    )
    def begin(self, runners: int, max_batch: int, fate: str) -> None:
        self.fate = fate
        self.loop = asyncio.new_event_loop()
        self.calls: list[Call] = []
        self.lost: list[str] = []
        self.runtime = Recorder(self.calls, max_batch=max_batch)
        self.engine = _engine(self.runtime, runners=0, on_fatal=self.lost.append)
        self.engine._loop = self.loop
        self.engine._load()  # no thread, no ticks: nothing happens but what a rule does
        self.runners: dict[Runner, Batch | None] = {
            self.engine._runner(index, self.runtime): None for index in range(runners)
        }

    @rule(kinds=st.lists(KINDS, min_size=1, max_size=4))
    def call(self, kinds: list[Kind]) -> None:
        refusal: dict[State, type[object]] = {"closed": Draining, "lost": NotReady}
        for kind in kinds:
            call = Call(len(self.calls), kind)
            if self.engine.state in refusal:
                call.ends.add(refusal[self.engine.state])
            self.calls.append(call)
            call.task = self.loop.create_task(self.engine.infer(call, time.monotonic() + 600))

    @rule()
    def spin(self) -> None:
        for call in self.calls:
            call.begun = True
        self.loop.run_until_complete(asyncio.sleep(0))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.calls))
        assert call.task is not None
        if call.task.cancel():
            call.ends.add(asyncio.CancelledError)

    @precondition(lambda self: self.unanswered())
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """An item's time passes, in the queue or in a runner's hands."""
        item = data.draw(st.sampled_from(self.unanswered()))
        item.deadline = 0.0
        if isinstance(item.prepare, Call):  # else nobody waits for it any more
            item.prepare.ends.add(DeadlineExceeded)

    @precondition(lambda self: self.can_take())
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        runner = data.draw(st.sampled_from([runner for runner, batch in self.runners.items() if batch is None]))
        batch = self.engine._batcher.take()
        assert batch is None or not any(item.cancelled for item in batch.items), "nobody waits for it"
        self.runners[runner] = batch

    @precondition(lambda self: any(self.runners.values()))
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from([runner for runner, batch in self.runners.items() if batch])))

    @rule(broken=st.booleans())
    def break_or_mend(self, broken: bool) -> None:
        self.runtime.broken = broken

    @precondition(lambda self: len(self.calls) > 5 and "loses" in self.fate)
    @rule()
    def lose(self) -> None:
        self.runtime.lost_at = -1

    @precondition(lambda self: len(self.calls) > 5 and "closes" in self.fate)
    @rule()
    def close(self) -> None:
        """The beginning of ``aclose``; its end is ``teardown``."""
        for call in self.calls:
            if not call.begun:
                call.ends.add(Draining)
        self.engine._move("closed")
        self.engine._batcher.close()

    def unanswered(self) -> list[Item]:
        held = [item for batch in self.runners.values() if batch for item in batch.items]
        return [*self.engine._batcher._items, *held]

    def can_take(self) -> bool:
        queued = self.engine._batcher._items
        live = any(not item.cancelled and item.deadline > 0 for item in queued)
        return (live or self.engine._batcher._closed) and None in self.runners.values()

    def finish(self, runner: Runner) -> None:
        batch = self.runners[runner]
        assert batch is not None
        if runner.step(batch):
            self.runners[runner] = None
            return
        del self.runners[runner]
        for call in self.calls:
            call.ends |= {InferenceFailed, NotReady}

    def teardown(self) -> None:
        self.spin()
        self.engine._batcher.close()
        while self.runners:
            runner = next(iter(self.runners))
            if self.runners[runner] is not None:
                self.finish(runner)
            elif (batch := self.engine._batcher.take()) is not None:
                self.runners[runner] = batch
            else:
                del self.runners[runner]
        self.spin()
        self.spin()
        try:
            if self.runtime.gone:  # nobody is left who would take what is queued: the rest of aclose
                for call in self.calls:
                    call.ends.add(Draining)
                self.engine._answer_everyone()
                self.spin()
                self.spin()
            for call in self.calls:
                call.check()
            assert len(self.engine._batcher) == 0
            assert self.lost == (["gone"] if self.runtime.gone else [])
        finally:
            for call in self.calls:
                if call.task is not None:
                    call.task.cancel()
            self.spin()
            self.loop.close()
        type(self).tried += 1


class Arrival(NamedTuple):
    kind: Kind
    timeout: float  # seconds
    leaves: bool  # cancelled after a while


class Plan(NamedTuple):
    """What the threads meet."""

    arrivals: list[Arrival]
    runners: int
    max_batch: int
    decode_threads: int
    max_queue_delay: float
    end: Literal["all answered", "closed amid", "lost amid", "broken amid"]
    seed: int


plans = st.builds(
    Plan,
    arrivals=st.lists(
        st.builds(Arrival, kind=KINDS, timeout=st.sampled_from([60.0, 60.0, 60.0, 0.003, 0.0]), leaves=st.booleans()),
        min_size=1,
        max_size=40,
    ),
    runners=st.integers(1, 3),
    max_batch=st.integers(1, 5),
    decode_threads=st.integers(0, 2),
    max_queue_delay=st.sampled_from([0.0, 0.0, 0.0005]),
    end=st.sampled_from(["all answered", "closed amid", "lost amid", "broken amid"]),
    seed=st.integers(0, 2**32),
)


@contextmanager
def hasty_threads() -> Iterator[None]:
    """Threads take turns a thousand times more often than usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def run_with_threads(plan: Plan) -> None:
    chance = random.Random(plan.seed)
    calls: list[Call] = []
    lost: list[str] = []

    def pause() -> None:
        if chance.random() < 0.5:
            time.sleep(chance.choice([0.0, 1e-5, 1e-4]))

    runtime = Recorder(calls, max_batch=plan.max_batch, pause=pause)
    engine = _engine(
        runtime,
        runners=plan.runners,
        on_fatal=lost.append,
        decode_threads=plan.decode_threads,
        max_queue_delay=plan.max_queue_delay,
    )

    async def main() -> None:
        await engine.start()
        runtime.lost_at = chance.randrange(len(plan.arrivals)) if plan.end == "lost amid" else None
        amid = chance.randrange(len(plan.arrivals))
        closing: asyncio.Task[None] | None = None
        for marker, arrival in enumerate(plan.arrivals):
            call = Call(marker, arrival.kind, pause, ends=_possible(plan, arrival))
            calls.append(call)
            call.task = asyncio.create_task(engine.infer(call, time.monotonic() + arrival.timeout))
            if arrival.leaves:
                asyncio.get_running_loop().call_later(chance.choice([0.0, 1e-4, 1e-3]), call.task.cancel)
            if marker == amid and plan.end == "closed amid":
                closing = asyncio.create_task(engine.aclose())
            if marker == amid and plan.end == "broken amid":
                runtime.broken = True
            if chance.random() < 0.7:
                await asyncio.sleep(chance.choice([0.0, 0.0, 1e-4]))
        async with asyncio.timeout(30):
            await asyncio.wait([call.task for call in calls if call.task is not None])
            await (closing or engine.aclose())

    with hasty_threads():
        asyncio.run(main())
    for call in calls:
        call.check()
    ends = Counter(thread.is_alive() for thread in engine._runners)
    assert ends == {False: plan.runners}
    assert len(engine._batcher) == 0
    assert len(lost) <= 1
    assert runtime.closed


def _possible(plan: Plan, arrival: Arrival) -> set[type[object]]:
    ends: set[type[object]] = set()
    if arrival.timeout < 60:
        ends.add(DeadlineExceeded)
    if arrival.leaves:
        ends.add(asyncio.CancelledError)
    if plan.end == "closed amid":
        ends.add(Draining)
    if plan.end == "lost amid":
        ends |= {InferenceFailed, NotReady}
    return ends
