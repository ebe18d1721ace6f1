"""How much memory is available, and tuning of the C library's allocator.

glibc keeps one arena per thread and returns freed memory reluctantly. For a process that allocates much while it loads
and then reuses a few buffers, that wastes tens of megabytes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os

from service.host import cgroup

_M_ARENA_MAX = -8  # <malloc.h>


def available_memory() -> int:
    """Bytes of the machine, or of the cgroup's limit if that is lower."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = cgroup.memory_limit()
    return machine if limit is None else min(machine, limit)


def limit_arenas(cores: int) -> None:
    """Allow one arena per two cores, at least two. Call before threads start; does nothing without glibc."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_ARENA_MAX, max(2, cores // 2))


def give_back() -> None:
    """Return freed memory to the system, for instance after loading."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


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


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None
