"""No image is lost, inferred twice or answered with another's result, whatever comes between what.

The short part; ``tests/hostile/faults`` has the long one.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.calls import unlogged
from tests.engine.engine_machine import EngineMachine
from tests.engine.real_threads import plans, run_with_threads

__all__ = ["unlogged"]


some_examples = pytest.mark.parametrize("examples", [40, pytest.param(200, marks=pytest.mark.slow)])


@some_examples
def test_every_call_ends_once_and_with_its_own_answer_in_any_order_of_steps(examples: int) -> None:
    profile = settings(max_examples=examples, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(EngineMachine, settings=profile)


@some_examples
def test_every_call_ends_once_and_with_its_own_answer_on_real_threads(examples: int) -> None:
    settings(max_examples=examples, deadline=None)(given(plan=plans)(run_with_threads))()
