"""A server process with small limits and a tiny model, and the proof after each test that it took no harm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from service.model.artifact import Artifact
from tests.artifacts import make_artifact
from tests.e2e.process import ServerProcess, server
from tests.hostile.http.wire import PATIENCE_S, Wire, get, post, wire
from tests.running import png
from tests.scrape import samples
from tests.waiting import until

Address = tuple[str, int]

settle = partial(until, timeout=PATIENCE_S, what="it comes to hold", every=0.01)


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("store"), num_classes=10)


@pytest.fixture(scope="session")
def store(artifact: Artifact) -> list[str]:
    """Options of ``serve`` for that artifact."""
    return ["--model-store", str(artifact.directory.parent.parent), "--model", artifact.manifest.name]


@pytest.fixture(scope="module")
def victim(store: list[str]) -> Iterator[ServerProcess]:
    with server(*store, "--max-body-bytes", "300000", "--max-images", "4") as running:
        yield running
        assert running.terminate() == 0
    assert complaints(running) == []


def complaints(running: ServerProcess) -> list[str]:
    """What a log must not hold after any abuse."""
    return [line for line in running.lines if any(word in line for word in ("Traceback", " error ", "Exception"))]


@pytest.fixture
def address(victim: ServerProcess) -> Iterator[Address]:
    with unharmed(victim) as where:
        yield where


@contextmanager
def unharmed(running: ServerProcess) -> Iterator[Address]:
    """Where it listens. Afterwards it must answer, with nothing in flight and no more sockets open than before."""
    address = running.address  # known once it listens
    before = open_sockets(running)
    yield address
    assert_unharmed(address)
    settle(lambda: open_sockets(running) <= before)


def assert_unharmed(address: Address) -> None:
    assert_answers(address)
    with wire(address) as connection:
        settle(lambda: metric(connection, "mobilenet_in_flight") == 0)


def assert_answers(address: Address) -> None:
    """A newcomer is served."""
    with wire(address) as connection:
        connection.send(post(png(3)))
        answer = connection.answer()
        assert answer is not None
        assert answer.status == 200
        assert b'"index":' in answer.body


def metric(connection: Wire, sample: str) -> float:
    """A sample of ``/metrics``, by name and labels as printed; 0 if it is not there."""
    connection.send(get("/metrics"))
    answer = connection.answer()
    assert answer is not None
    return samples(answer.body.decode()).get(sample, 0.0)


def open_sockets(running: ServerProcess) -> int:
    files = Path(f"/proc/{running.process.pid}/fd").iterdir()
    return sum(str(target).startswith("socket:") for target in map(_target, files))


def _target(link: Path) -> Path:
    try:
        return link.readlink()
    except FileNotFoundError:  # closed meanwhile
        return link


def resident_mib(running: ServerProcess) -> float:
    pages = int(Path(f"/proc/{running.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
