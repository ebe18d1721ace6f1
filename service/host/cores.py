"""How many processor cores this process may really use.

``os.cpu_count()`` is the machine's count; a container with a quota of 2 on a 64-core host would start 64 threads and
be throttled. Affinity and the cgroup's CPU quota decide; thread pools are sized from the result.
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
