"""What the hostile tests share: the figures that reliability.md shows."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

#: Takes a name and a value.
RecordFigure = Callable[[str, str], None]


@pytest.fixture
def record_figure(capsys: pytest.CaptureFixture[str]) -> RecordFigure:
    """Shows a figure on the terminal."""

    def record(name: str, value: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\nfigure: {name} = {value}\n")

    return record
