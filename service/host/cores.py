"""The number of processor cores that this process may use, by which thread pools are sized.

``os.cpu_count()`` counts the machine's: in a container with a quota of 2 on a 64-core host we would start 64 threads
and be throttled. So affinity and the cgroup's CPU quota decide.
"""

from __future__ import annotations

import math
import os

from service.host import cgroup


def available_cores() -> int:
    """Cores by affinity, capped by the cgroup quota rounded up; at least 1."""
    cores = len(os.sched_getaffinity(0))
    quota = cgroup.cpu_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))
