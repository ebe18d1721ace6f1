from __future__ import annotations

from pathlib import Path

import pytest

from tests.artifacts import make_artifact


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_artifact(tmp_path, name="tiny", num_classes=3)
    return tmp_path


@pytest.fixture
def tiny(store: Path) -> list[str]:
    """Two workers and an engine over a model that loads in no time."""
    return ["--model-store", str(store), "--model", "tiny", "--workers", "2", "--devices", "cpu"]
