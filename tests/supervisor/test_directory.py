"""Where the metrics of all processes are: made, locked, removed, and left behind by the killed alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import OperatorError
from service.supervisor.directory import metrics_directory


def test_where_none_can_be_made_an_operator_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no directory for metrics"), metrics_directory(tmp_path / "missing"):
        pass


def test_it_is_removed_at_the_end(tmp_path: Path) -> None:
    with metrics_directory(tmp_path) as directory:
        (directory / "counter_worker-0.db").write_bytes(b"1")
        assert directory.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_supervisor_left_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    left, young = tmp_path / "mobilenet-metrics-left", tmp_path / "mobilenet-metrics-young"
    for path in (left, young):
        path.mkdir()
        (path / "counter_worker-0.db").write_bytes(b"1")
    os.utime(left, (0, 0))
    with metrics_directory(tmp_path) as first:
        assert not left.exists()
        assert young.exists(), "it may be a supervisor's that has just made it"
        os.utime(first, (0, 0))
        with metrics_directory(tmp_path) as second:
            assert first.exists(), "it is locked"
            assert second != first
