"""Engine, batcher and runners under every order of steps, over a runtime whose answers name their images.

One thread makes each step of each runner a rule, so that hypothesis decides what comes between two steps.
"""

from __future__ import annotations

import asyncio
import time

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from service.engine import loading
from service.engine.batcher import Batch, Item
from service.engine.client import Decode, State
from service.engine.runner import Runner
from service.errors import DeadlineExceeded, Draining, InferenceFailed, NotReady
from tests.engine.calls import KINDS, Call, Kind, Recorder, call_of, engine_of
from tests.fakes import MODEL, SIZE


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
        self.engine = engine_of(self.runtime, runners=0, on_fatal=self.lost.append)
        self.engine._replies.bind(self.loop)
        # No thread, no ticks: nothing happens but what a rule does.
        self.engine._take_in(MODEL, loading.load(lambda: self.runtime, SIZE, max_batch))
        self.runners: dict[Runner, Batch | None] = {self.engine._runner(): None for _ in range(runners)}

    @rule(kinds=st.lists(KINDS, min_size=1, max_size=4))
    def call(self, kinds: list[Kind]) -> None:
        refusal: dict[State, type[object]] = {"closed": Draining, "lost": NotReady}
        for kind in kinds:
            call = Call(len(self.calls), kind)
            if self.engine.state in refusal:
                call.ends.add(refusal[self.engine.state])
            self.calls.append(call)
            call.task = self.loop.create_task(self.engine.infer(MODEL, Decode(call), time.monotonic() + 600))

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
        if (call := call_of(item)) is not None:
            call.ends.add(DeadlineExceeded)

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
        return [*self.queued(), *held]

    def queued(self) -> list[Item]:
        return [item for queue in self.engine._batcher._queues.values() for item in queue]

    def can_take(self) -> bool:
        live = any(not item.cancelled and item.deadline > 0 for item in self.queued())
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
