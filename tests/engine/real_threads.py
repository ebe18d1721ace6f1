"""Engine, batcher and runners on all their real threads, hastier than usual; hypothesis decides what they meet."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from hypothesis import strategies as st

from service.engine.client import Decode
from service.errors import DeadlineExceeded, Draining, InferenceFailed, NotReady
from tests.engine.calls import KINDS, Call, Kind, Recorder, engine_of
from tests.fakes import MODEL


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
    engine = engine_of(
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
            call.task = asyncio.create_task(engine.infer(MODEL, Decode(call), time.monotonic() + arrival.timeout))
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
