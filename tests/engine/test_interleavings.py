"""No image is lost, inferred twice or answered with another's result, whatever comes between what.

The fast part; ``tests/hostile/faults`` has the long one.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.calls import unlogged
from tests.engine.engine_machine import EngineMachine
from tests.engine.real_threads import Plan, plans, run_with_threads

__all__ = ["unlogged"]


def test_every_call_ends_once_and_with_its_own_answer_in_any_order_of_steps() -> None:
    profile = settings(max_examples=200, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(EngineMachine, settings=profile)


@settings(max_examples=200, deadline=None)
@given(plan=plans)
def test_every_call_ends_once_and_with_its_own_answer_on_real_threads(plan: Plan) -> None:
    run_with_threads(plan)
