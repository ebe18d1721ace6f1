"""A server process with small limits and a tiny model, and the proof after each test that it took no harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import PATIENT, ServerProcess, server
from tests.hostile.http.wire import PATIENCE_S, Address, get, post, wire
from tests.running import png
from tests.scrape import samples
from tests.waiting import until

settle = partial(until, timeout=PATIENCE_S, what="it comes to hold", every=0.01)


def changed(changes: str) -> tuple[str, str]:
    """The program ``mobilenet-service`` after some lines that change or watch what it does."""
    return "-c", f"import sys\nfrom service.cli import main\n{changes}\nsys.argv[0] = 'mobilenet-service'\nmain()\n"


@contextmanager
def serving(*options: str, **process: Any) -> Iterator[ServerProcess]:
    """A server process that ends as it should and has complained of nothing."""
    with server(*PATIENT, *options, **process) as running:
        yield running
        assert running.terminate() == 0
    assert complaints(running) == []


@pytest.fixture(scope="module")
def victim(tiny: list[str]) -> Iterator[ServerProcess]:
    with serving(*tiny, "--max-body-bytes", "300000", "--max-images", "4") as running:
        yield running


def complaints(running: ServerProcess) -> list[str]:
    """What a log must not hold after any abuse."""
    return [line for line in running.lines if any(word in line for word in ("Traceback", " error ", "Exception"))]


@pytest.fixture
def address(victim: ServerProcess) -> Iterator[Address]:
    with unharmed(victim) as where:
        yield where


@contextmanager
def unharmed(running: ServerProcess) -> Iterator[Address]:
    """Where it listens. Afterwards it must answer, with nothing in flight, no more sockets open, and no complaints."""
    address = running.address  # known once it listens
    before = open_sockets(running)
    yield address
    assert_unharmed(address)
    settle(lambda: open_sockets(running) <= before)
    assert complaints(running) == []


def assert_unharmed(address: Address) -> None:
    assert_answers(address)
    with wire(address) as connection:
        settle(lambda: samples(connection.ask(get("/metrics")).body.decode())["mobilenet_in_flight"] == 0)


def assert_answers(address: Address) -> None:
    """A newcomer is served."""
    with wire(address) as connection:
        answer = connection.ask(post(png(3)))
    assert answer.status == 200
    assert b'"index":' in answer.body


def open_sockets(running: ServerProcess) -> int:
    """One that is closed meanwhile is none."""
    return sum(link.is_socket() for link in Path(f"/proc/{running.process.pid}/fd").iterdir())
