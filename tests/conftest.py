"""Fixtures that every test may use."""

from __future__ import annotations

import pytest

from service.config import Settings
from service.model import artifact
from service.model.artifact import Artifact
from service.store.pull import pull


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Asynchronous tests run on asyncio's own event loop and on uvloop, which is what serves."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(scope="session")
def real_artifact() -> Artifact:
    """The default model with its real weights."""
    store = Settings().model_store
    pull(store, "mobilenet_v2", "1")
    return artifact.load(store, "mobilenet_v2", "1")
