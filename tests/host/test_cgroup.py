"""Limits of control groups, both versions, and the sizes that follow from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.host import cgroup
from service.host.cores import available_cores
from service.host.memory import available_memory, free_memory

MiB = 2**20


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    """Of a process in the group /a/b, in version 2 and in the two hierarchies of version 1 that matter."""
    path = tmp_path / "membership"
    path.write_text("7:cpu,cpuacct:/a/b\n4:memory:/a/b\n0::/a/b\n")
    return path


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    path = tmp_path / "cgroup"
    for below in (".", "cpu", "memory"):
        (path / below / "a/b").mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("text", "quota"), [("max 100000", None), ("200000 100000", 2), ("150000 100000", 1.5), ("nonsense", None)]
)
@pytest.mark.parametrize("group", [".", "a/b"])
def test_cpu_quota_of_version_2(mount: Path, membership: Path, group: str, text: str, quota: float | None) -> None:
    (mount / group / "cpu.max").write_text(text + "\n")
    assert cgroup.cpu_quota(mount, membership) == quota


@pytest.mark.parametrize(("microseconds", "quota"), [(-1, None), (400_000, 4), (50_000, 0.5)])
@pytest.mark.parametrize("group", ["cpu", "cpu/a/b"])
def test_cpu_quota_of_version_1(
    mount: Path, membership: Path, group: str, microseconds: int, quota: float | None
) -> None:
    (mount / group / "cpu.cfs_quota_us").write_text(f"{microseconds}\n")
    (mount / group / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup.cpu_quota(mount, membership) == quota


@pytest.mark.parametrize(
    ("file", "text", "limit"),
    [
        ("memory.max", "max", None),
        ("a/b/memory.max", "1048576", MiB),
        ("memory/memory.limit_in_bytes", "9223372036854771712", None),
        ("memory/a/b/memory.limit_in_bytes", "1048576", MiB),
    ],
)
def test_memory_limit(mount: Path, membership: Path, file: str, text: str, limit: int | None) -> None:
    (mount / file).write_text(text + "\n")
    assert cgroup.memory_limit(mount, membership) == limit


def test_the_least_limit_on_the_way_up_holds(mount: Path, membership: Path) -> None:
    (mount / "memory.max").write_text("300\n")
    (mount / "a/memory.max").write_text("100\n")
    (mount / "a/b/memory.max").write_text("200\n")
    assert cgroup.memory_limit(mount, membership) == 100


@pytest.mark.parametrize(
    ("group", "files", "cached"),
    [
        ("a", ("memory.max", "memory.current"), "inactive_file"),
        ("memory/a/b", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"),
    ],
)
def test_memory_that_is_left(mount: Path, membership: Path, group: str, files: tuple[str, str], cached: str) -> None:
    for name, text in zip(files, ("1000\n", "900\n"), strict=True):
        (mount / group / name).write_text(text)
    assert cgroup.memory_left(mount, membership) == 100
    (mount / group / "memory.stat").write_text(f"file 700\n{cached} 250\nactive_file 450\n")
    assert cgroup.memory_left(mount, membership) == 350, "files that are only cached can be dropped"
    (mount / group / "memory.stat").write_text("nonsense")
    assert cgroup.memory_left(mount, membership) == 100
    (mount / group / files[0]).write_text("max" if len(group) == 1 else "9223372036854771712")
    assert cgroup.memory_left(mount, membership) is None


def test_the_group_with_the_least_left_decides(mount: Path, membership: Path) -> None:
    for group, limit, usage in ((".", 1000, 950), ("a", 2000, 100), ("a/b", 300, 20)):
        (mount / group / "memory.max").write_text(str(limit))
        (mount / group / "memory.current").write_text(str(usage))
    assert cgroup.memory_left(mount, membership) == 50


@pytest.mark.parametrize("line", ["", "0::/../elsewhere", "0::/not/there"])
def test_a_group_that_cannot_be_seen(mount: Path, tmp_path: Path, line: str) -> None:
    (mount / "memory.max").write_text("300\n")
    membership = tmp_path / "other"
    membership.write_text(line + "\n")
    assert cgroup.memory_limit(mount, membership) == 300


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert cgroup.cpu_quota(absent, absent) is None
    assert cgroup.memory_limit(absent, absent) is None
    assert cgroup.memory_left(absent, absent) is None


@pytest.mark.parametrize(("quota", "cores"), [(None, 16), (2.0, 2), (1.5, 2), (0.05, 1), (99.0, 16)])
def test_cores(monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: quota)
    assert available_cores() == cores


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_limit", lambda: None)
    machine = available_memory()
    monkeypatch.setattr(cgroup, "memory_limit", lambda: machine + 1)
    assert available_memory() == machine
    monkeypatch.setattr(cgroup, "memory_limit", lambda: 512 * MiB)
    assert available_memory() == 512 * MiB


def test_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_left", lambda: None)
    assert 0 < free_memory() <= available_memory()
    for left, free in ((1, 1), (-5, 0)):
        monkeypatch.setattr(cgroup, "memory_left", lambda left=left: left)
        assert free_memory() == free
