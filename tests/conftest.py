"""Fixtures that every test may use, and which tests need torch or share a process."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from service import artifact
from service.artifact import Artifact
from service.config import Settings
from service.store.pull import pull

_HERE = Path(__file__).parent

#: They import torch at the top. Without torch they are not collected; any other test that imports it then fails.
_TORCH_MODULES = (
    "benchmarks/test_gpu.py",
    "preprocess/test_torchvision.py",
    "runtimes/test_cuda.py",
    "runtimes/test_torch_module.py",
    "runtimes/test_torch_replay.py",
    "store/test_checkpoint.py",
    "store/test_published.py",
    "test_mobilenetv2_torchvision.py",
)

collect_ignore = [] if find_spec("torch") else list(_TORCH_MODULES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests with what their folder or module says, and groups them for ``--dist loadgroup``: by file."""
    for item in items:
        path = item.path.relative_to(_HERE).as_posix()
        folder = path.partition("/")[0]
        if path in _TORCH_MODULES:
            item.add_marker("extra")
        if folder == "browser":
            item.add_marker("browser")
        # Containers share an engine and its images; a browser is opened once.
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
