"""Fixtures that every test may use, and which tests need torch or share a process."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from service.config import Settings
from service.model import artifact
from service.model.artifact import Artifact
from service.store.pull import pull

_HERE = Path(__file__).parent

#: They import torch at the top. Without torch they are not collected; any other test that imports it then fails.
_TORCH_MODULES = (
    "test_checkpoint.py",
    "test_cuda.py",
    "test_gpu.py",
    "test_mobilenetv2_torchvision.py",
    "test_published.py",
    "test_torch_module.py",
    "test_torch_replay.py",
    "test_torchvision.py",
)

collect_ignore_glob = [] if find_spec("torch") else [f"*{name}" for name in _TORCH_MODULES]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder or module, and group them for ``--dist loadgroup``: by file."""
    for item in items:
        path = item.path.relative_to(_HERE).as_posix()
        folder = path.partition("/")[0]
        if item.path.name in _TORCH_MODULES:
            item.add_marker("extra")
        if folder == "browser":
            item.add_marker("browser")
        # Containers share an image and an engine; all tests of the page share a browser.
        shared = folder in ("browser", "containers")
        item.add_marker(pytest.mark.xdist_group(folder if shared else path))


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
