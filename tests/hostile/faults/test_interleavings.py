"""The long part of ``tests/engine/test_interleavings.py`` and of the batcher's model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.batcher_model import BatcherMachine
from tests.engine.calls import unlogged
from tests.engine.engine_machine import EngineMachine
from tests.engine.real_threads import Plan, plans, run_with_threads
from tests.hostile.conftest import RecordFigure

__all__ = ["unlogged"]

#: Each round begins anew: hypothesis remembers what it has tried, a hundred kilobytes a run.
ROUNDS = 10
RUNS = settings(max_examples=1000, stateful_step_count=50, deadline=None, database=None)


@pytest.mark.torture
def test_tens_of_thousands_of_orders_of_events(record_figure: RecordFigure) -> None:
    BatcherMachine.tried = EngineMachine.tried = 0
    on_threads = 0

    @RUNS
    @given(plan=plans)
    def try_on_threads(plan: Plan) -> None:
        nonlocal on_threads
        run_with_threads(plan)
        on_threads += 1

    for _ in range(ROUNDS):
        run_state_machine_as_test(BatcherMachine, settings=RUNS)
        run_state_machine_as_test(EngineMachine, settings=RUNS)
        try_on_threads()
    record_figure("interleavings tried", str(BatcherMachine.tried + EngineMachine.tried + on_threads))
    record_figure("interleavings tried, on real threads", str(on_threads))
