"""One small artifact, one running app for the tests that only ask questions, and what holds the others' requests."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.model.artifact import Artifact
from tests.artifacts import make_artifact
from tests.fakes import Gate
from tests.running import RunningApp, running_app


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("store"), num_classes=10)


@pytest.fixture(scope="module")
def app(artifact: Artifact) -> Iterator[RunningApp]:
    with running_app(artifact, max_body_bytes=200_000, max_images=4, max_pixels=1_000_000) as running:
        yield running


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def gate(threads: ThreadPoolExecutor) -> Iterator[Gate]:
    """Open at the end of the test, so that what waits on ``threads`` ends."""
    made = Gate()
    yield made
    made.open()
