"""Every abuse of HTTP against a server process: an expected answer, no harm to other requests, nothing in the log."""

from __future__ import annotations

import pytest

from tests.e2e.process import ServerProcess
from tests.hostile.bystanders import asking
from tests.hostile.conftest import RecordFigure
from tests.hostile.http.case import Case
from tests.hostile.http.content import content
from tests.hostile.http.framing import framing
from tests.hostile.http.wire import Address, Answer, post, wire
from tests.processes import tree
from tests.running import png

CASES = [*framing(), *content()]


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 280


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_abuse_is_answered_and_does_no_harm(address: Address, case: Case) -> None:
    assert list(case.violations(address)) == []


ROUNDS = 10


@pytest.mark.torture
def test_rounds_of_abuse(address: Address, victim: ServerProcess, record_figure: RecordFigure) -> None:
    violations: list[str] = []
    resident: list[float] = []
    with wire(address) as connection:

        def ask() -> Answer:
            return connection.ask(post(png(3)))

        first = ask()
        with asking(ask) as answers:
            for _ in range(ROUNDS + 1):
                violations += [f"{case.name}: {violation}" for case in CASES for violation in case.violations(address)]
                resident.append(tree.resident(victim.process.pid))
    harmed = sum((answer.status, answer.body) != (200, first.body) for answer in answers)
    growth = max(resident[1:]) - resident[0]
    record_figure("HTTP abuse", f"{len(CASES)} cases, {len(CASES) * (ROUNDS + 1)} tried, {len(violations)} violations")
    record_figure("good requests beside HTTP abuse", f"{len(answers)}, harmed {harmed}")
    record_figure(f"memory over {ROUNDS} rounds of HTTP abuse after the first", f"{growth:+.1f} MiB")
    assert violations == []
    assert harmed == 0
    assert len(answers) > 100
    assert growth < 50
