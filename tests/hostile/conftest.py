"""What the hostile tests share: figures that reliability.md shows are printed and, on demand, collected."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

#: Names a file to which every figure is appended as a line "name = value".
FIGURES = "RELIABILITY_FIGURES"


@pytest.fixture
def record_figure(capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], None]:
    """Call it with a name and a value; both appear on the terminal."""

    def record(name: str, value: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\nfigure: {name} = {value}\n")
        if path := os.environ.get(FIGURES):
            with Path(path).open("a") as file:
                file.write(f"{name} = {value}\n")

    return record
