"""Fixtures that every test may use, and which tests need torch or share a process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from service.config import Settings
from service.model import artifact
from service.model.artifact import Artifact
from service.store.pull import pull

#: Files that share a browser, or a Docker engine and an image. They run one after the other, too: Chromium gives up
#: on its requests (ERR_NETWORK_CHANGED) whenever Docker makes or removes a network.
_SHARING = ("tests/browser/", "tests/clients/test_chromium_", "tests/containers/")

#: They import torch at the top. Without torch they are not collected; any other test that imports it then fails.
_TORCH_MODULES = (
    "test_checkpoint.py",
    "test_cuda.py",
    "test_gpu.py",
    "test_published.py",
    "test_torch_module.py",
    "test_torch_replay.py",
    "test_torchvision.py",
)

_TORTURE_TIMEOUT_S = 1200

collect_ignore_glob = [] if find_spec("torch") else [f"*{name}" for name in _TORCH_MODULES]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in _TORCH_MODULES:
            item.add_marker("extra")
        if item.nodeid.startswith("tests/browser/"):
            item.add_marker("browser")
        if item.nodeid.startswith("tests/containers/"):
            item.add_marker("container")
            item.add_marker(pytest.mark.timeout(600))
        if item.get_closest_marker("torture"):  # a timeout that the test itself names goes before this one
            item.add_marker(pytest.mark.timeout(_TORTURE_TIMEOUT_S))


@pytest.fixture
def report(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line that stays visible in the test output, after the name of the test's folder."""

    def say(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{request.path.parent.name}: {line}\n")

    return say


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Tests of one file run in one process, and so do those of all files that share something."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "sharing" if file.startswith(_SHARING) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _ByFile(config, log)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Asynchronous tests run on uvloop, which is what serves."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def real_artifact() -> Artifact:
    """The default model with its real weights."""
    store = Settings().model_store
    pull(store, "mobilenet_v2", "1")
    return artifact.load(store, "mobilenet_v2", "1")
