"""How much memory there is, and the C library's allocator, told what kind of process this is.

glibc keeps an arena for each thread and gives freed memory back reluctantly: reasonable for a general program, tens of
megabytes too many for one that allocates much while it loads and then the same few buffers for ever.
"""

from __future__ import annotations

import asyncio
import ctypes
import os

from service.host import cgroup

_M_ARENA_MAX = -8  # <malloc.h>


def available_memory() -> int:
    """Bytes: the machine's, or what the cgroup leaves of it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = cgroup.memory_limit()
    return machine if limit is None else min(machine, limit)


def limit_arenas(cores: int) -> None:
    """Let threads share an arena for every two cores, two at least. Before any of them starts; needs glibc."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_ARENA_MAX, max(2, cores // 2))


def give_back() -> None:
    """Return freed memory to the system: after loading, when what was needed for it is garbage."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


#: Seconds. The next request pays for it in page faults, a tenth of its time where requests come every two seconds.
_PATIENCE_S = 10.0


class GiveBackWhenIdle:
    """Calls ``give_back`` once a burst of work has been over for ``after`` seconds. Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, after: float = _PATIENCE_S) -> None:
        self._loop = loop
        self._after = after
        self._last_work = 0.0
        self._waiting = False

    def worked(self) -> None:
        """Some work has just ended."""
        self._last_work = self._loop.time()
        if not self._waiting:
            self._waiting = True
            self._loop.call_later(self._after, self._look)

    def _look(self) -> None:
        remaining = self._last_work + self._after - self._loop.time()
        if remaining > 0:
            self._loop.call_later(remaining, self._look)
        else:
            self._waiting = False
            give_back()


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None
