"""Cores by affinity and cgroup quota, both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.cores import available_cores


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


def test_affinity_alone(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 16


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("9900000 100000", 16)],
)
def test_cgroup_v2_quota(tmp_path: Path, text: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [(-1, 16), (400_000, 4), (50_000, 1)])
def test_cgroup_v1_quota(tmp_path: Path, quota: int, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path) == cores
