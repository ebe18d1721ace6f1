"""How many processor cores this process may really use.

``os.cpu_count()`` is the machine's count; a container with a quota of 2 on a 64-core host would start 64 threads and
be throttled. Affinity and the cgroup's CPU quota (v2 and v1) decide; thread pools are sized from the result.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """Cores by affinity, capped by the cgroup quota rounded up; at least 1."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota_v2(cgroup / "cpu.max") or _quota_v1(cgroup / "cpu")
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _quota_v2(path: Path) -> float | None:
    """``cpu.max`` reads "max 100000" or "200000 100000": microseconds of CPU a period of microseconds."""
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(directory: Path) -> float | None:
    try:
        quota = int((directory / "cpu.cfs_quota_us").read_text())
        period = int((directory / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
