"""Where the metrics of all processes are: made, locked, removed, and left behind by the killed alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import OperatorError
from service.processes.metrics_directory import metrics_directory


def test_where_none_can_be_made_an_operator_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no directory for metrics"), metrics_directory(tmp_path / "missing"):
        pass


def test_where_no_folder_is_writable_an_operator_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("tempfile.gettempdir", refuse)
    with pytest.raises(OperatorError) as caught, metrics_directory():
        pass
    assert str(caught.value) == (
        "no directory for metrics can be made in /dev/shm: No usable temporary directory found in ['/tmp']"
    )


def test_it_is_removed_at_the_end(tmp_path: Path) -> None:
    with metrics_directory(tmp_path) as directory:
        (directory / "counter_worker-0.db").write_bytes(b"1")
        assert directory.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_supervisor_left_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    left = tmp_path / "mobilenet-metrics-left"
    left.mkdir()
    (left / "counter_worker-0.db").write_bytes(b"1")
    with metrics_directory(tmp_path) as first:
        assert not left.exists()
        with metrics_directory(tmp_path) as second:
            assert sorted(tmp_path.iterdir()) == sorted([first, second])


def test_a_link_by_its_name_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    base = tmp_path / "base"
    base.mkdir()
    (base / "mobilenet-metrics-x").symlink_to(precious)
    with metrics_directory(base):
        pass
    assert precious.exists()
