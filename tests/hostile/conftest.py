"""What the hostile tests share: the figures that reliability.md shows, and a small model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.artifacts import make_artifact

#: Takes a name and a value.
RecordFigure = Callable[[str, str], None]


@pytest.fixture
def record_figure(capsys: pytest.CaptureFixture[str]) -> RecordFigure:
    """Shows a figure on the terminal."""

    def record(name: str, value: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\nfigure: {name} = {value}\n")

    return record


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    make_artifact(path, width_mult=0.1)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_store: Path) -> list[str]:
    """The options that serve it."""
    return ["--model-store", str(tiny_store), "--model", "tiny"]
