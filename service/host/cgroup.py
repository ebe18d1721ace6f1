"""CPU quota and memory limit of this process's control group, version 2 or 1.

The lowest limit among its own group and all visible groups above it. In a container the files of its own group are at
the root of the mount, whatever ``/proc/self/cgroup`` says; under systemd they are in the folder named there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")

#: Version 1 writes "unlimited" as the largest multiple of the page size, which is more than this.
_UNLIMITED = 2**60


def cpu_quota(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> float | None:
    """The number of cores, possibly fractional; None if there is no limit."""
    limits = [_quota(group / "cpu.max") for group in _groups(mount, membership, "")]
    for group in _groups(mount / "cpu", membership, "cpu"):
        limits.append(_quota(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"))
    return min((limit for limit in limits if limit is not None), default=None)


def memory_limit(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> int | None:
    """Bytes; None if there is no limit."""
    limits = [_bytes(group / "memory.max") for group in _groups(mount, membership, "")]
    limits += [_bytes(group / "memory.limit_in_bytes") for group in _groups(mount / "memory", membership, "memory")]
    return min((limit for limit in limits if limit is not None and limit < _UNLIMITED), default=None)


def memory_left(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> int | None:
    """Bytes that may still be allocated; None if there is no limit.

    Files that are cached and not in use do not count as used: the kernel drops them for whoever needs memory.
    """
    left = [
        _left(group, "memory.max", "memory.current", "inactive_file") for group in _groups(mount, membership, "")
    ] + [
        _left(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for group in _groups(mount / "memory", membership, "memory")
    ]
    return min((count for count in left if count is not None), default=None)


def _groups(mount: Path, membership: Path, controller: str) -> Iterator[Path]:
    """The existing folders of this process's group and of those above it; ``controller`` is "" for version 2."""
    group = mount
    yield group
    for part in Path(_group_path(membership, controller)).parts[1:]:
        group = group / part
        if part == ".." or not group.is_dir():
            return
        yield group


def _group_path(membership: Path, controller: str) -> str:
    """Each line reads ``number:controllers:path``; controllers are empty for version 2."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return "/"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path
    return "/"


def _quota(*paths: Path) -> float | None:
    """Reads microseconds of CPU per period, and the period in microseconds, from one file or from two."""
    try:
        quota, period = (int(word) for path in paths for word in path.read_text().split())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no limit: "max" in version 2, -1 in version 1
        return None


def _left(group: Path, limit_file: str, usage_file: str, cached: str) -> int | None:
    limit, usage = _bytes(group / limit_file), _bytes(group / usage_file)
    if limit is None or limit >= _UNLIMITED or usage is None:
        return None
    try:
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - usage + int(statistics.get(cached, 0))
    except (OSError, ValueError):
        return limit - usage


def _bytes(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # also "max"
        return None
