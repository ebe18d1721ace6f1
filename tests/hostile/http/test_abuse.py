"""Every abuse of HTTP against a server process: an expected answer, no harm to other requests, nothing in the log."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.e2e.process import ServerProcess
from tests.hostile.http.case import Case
from tests.hostile.http.conftest import Address, complaints, resident_mib
from tests.hostile.http.content import content
from tests.hostile.http.framing import framing
from tests.hostile.http.wire import post, wire
from tests.running import png

CASES = [*framing(), *content()]


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 280


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_abuse_is_answered_and_does_no_harm(address: Address, case: Case) -> None:
    assert list(case.violations(address)) == []


class Bystander(threading.Thread):
    """Sends the same good request on and on, and counts the answers that differ from the first."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address
        self._enough = threading.Event()
        self.answered = self.harmed = 0

    def run(self) -> None:
        request = post(png(3))
        with wire(self._address) as connection:
            connection.send(request)
            first = connection.answer()
            while not self._enough.is_set():
                connection.send(request)
                answer = connection.answer()
                self.answered += 1
                self.harmed += answer is None or first is None or (answer.status, answer.body) != (200, first.body)

    def stop(self) -> None:
        self._enough.set()
        self.join()


ROUNDS = 10


@pytest.mark.torture
def test_rounds_of_abuse(address: Address, victim: ServerProcess, record_figure: Callable[[str, str], None]) -> None:
    violations: list[str] = []
    resident: list[float] = []
    bystander = Bystander(address)
    bystander.start()
    try:
        for _ in range(ROUNDS + 1):
            violations += [f"{case.name}: {violation}" for case in CASES for violation in case.violations(address)]
            resident.append(resident_mib(victim))
    finally:
        bystander.stop()
    growth = max(resident[1:]) - resident[0]
    record_figure("HTTP abuse", f"{len(CASES)} cases, {len(CASES) * (ROUNDS + 1)} tried, {len(violations)} violations")
    record_figure("good requests beside HTTP abuse", f"{bystander.answered}, harmed {bystander.harmed}")
    record_figure(f"memory over {ROUNDS} rounds of HTTP abuse after the first", f"{growth:+.1f} MiB")
    assert violations == []
    assert bystander.harmed == 0
    assert bystander.answered > 100
    assert growth < 50
    assert complaints(victim) == []
