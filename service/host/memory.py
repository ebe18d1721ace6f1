"""How much memory there is, and glibc's allocator, configured for a process that loads a model and then serves photos.

By default glibc keeps one arena per thread and returns freed memory reluctantly. That suits a general program, but is
tens of megabytes too many for one that allocates much while it loads and then the same few buffers for ever.

A timer gives memory back after a burst of requests, because no fixed threshold does as well. Measured on two cores,
four interleaved rounds: with mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD at 4 and 2 MiB as much memory comes back
(224 MiB after 48 photos of 12 megapixels, as with the timer), but each photo of 1.2 megapixels then takes 1,201 page
faults and 6 % more of a core. At 16 and 8 MiB the faults are gone and 15 MiB more stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
from pathlib import Path

from service.host import cgroup

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # <malloc.h>


def available_memory() -> int:
    """Bytes of the machine, or of the cgroup's limit if that is lower."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = cgroup.memory_limit()
    return machine if limit is None else min(machine, limit)


def free_memory() -> int:
    """Bytes that may still be allocated: of the machine, or of the cgroup if that has less left."""
    machine = available_memory()
    with contextlib.suppress(OSError):
        if match := re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE):
            machine = 1024 * int(match[1])
    left = cgroup.memory_left()
    return machine if left is None else max(0, min(machine, left))


def limit_arenas(cores: int) -> None:
    """Allow one arena per two cores, at least two. Call before threads start; does nothing without glibc."""
    _call_glibc("mallopt", _M_ARENA_MAX, max(2, cores // 2))


def map_large_blocks() -> None:
    """Let blocks of a megabyte return to the system when they are freed, also by threads, whose arenas ``give_back``
    does not shorten. For a process that has such blocks rarely; does nothing without glibc."""
    _call_glibc("mallopt", _M_MMAP_THRESHOLD, 2**20)


def give_back() -> None:
    """Return freed memory to the system, for instance after loading; does nothing without glibc."""
    _call_glibc("malloc_trim", 0)


#: Seconds without work before memory is given back. Sooner would slow the next request by page faults: by a tenth, for
#: requests every two seconds.
_PATIENCE_S = 10.0


class GiveBackWhenIdle:
    """Calls ``give_back`` ``after`` seconds after the last work of a burst. Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, after: float = _PATIENCE_S) -> None:
        self._loop = loop
        self._after = after
        self._last_work = 0.0
        self._waiting = False

    def worked(self) -> None:
        """To be called each time some work has ended."""
        self._last_work = self._loop.time()
        if not self._waiting:
            self._waiting = True
            self._loop.call_later(self._after, self._give_back_if_idle)

    def _give_back_if_idle(self) -> None:
        remaining = self._last_work + self._after - self._loop.time()
        if remaining > 0:
            self._loop.call_later(remaining, self._give_back_if_idle)
        else:
            self._waiting = False
            give_back()


def _call_glibc(function: str, *arguments: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6")[function](*arguments)
