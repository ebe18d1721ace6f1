"""A small model for processes whose runtime is a fake, and photos for those whose runtime is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import photos as photo_files
from tests.artifacts import make_artifact
from tests.photos import Photo


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    make_artifact(path, name="tiny", width_mult=0.1)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_store: Path) -> list[str]:
    """The options that serve it."""
    return ["--model-store", str(tiny_store), "--model", "tiny"]


@pytest.fixture(scope="session")
def photos() -> list[Photo]:
    return photo_files.load()
