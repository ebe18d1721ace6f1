"""Real photos, and a server process with the real model for each runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.model.artifact import Artifact
from tests import photos as photo_files
from tests.artifacts import make_artifact
from tests.e2e.process import PATIENT, ServerProcess, server
from tests.photos import Photo


@pytest.fixture(scope="session")
def photos() -> list[Photo]:
    return photo_files.load()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that serve a small model."""
    store = tmp_path_factory.mktemp("store")
    make_artifact(store, width_mult=0.1)
    return ["--model-store", str(store), "--model", "tiny"]


@pytest.fixture(scope="session")
def openvino_server(real_artifact: Artifact) -> Iterator[ServerProcess]:
    with server("--runtime", "openvino", *PATIENT) as running:
        yield running


@pytest.fixture(scope="session")
def torch_server(real_artifact: Artifact) -> Iterator[ServerProcess]:
    # One runner: what arrives while it works waits, and leaves as a batch.
    with server("--runtime", "torch", "--max-batch-size", "8", "--runners", "1", *PATIENT) as running:
        yield running


@pytest.fixture(params=["openvino", pytest.param("torch", marks=pytest.mark.extra)])
def any_server(request: pytest.FixtureRequest) -> ServerProcess:
    running: ServerProcess = request.getfixturevalue(f"{request.param}_server")
    return running
