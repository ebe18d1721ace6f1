"""glibc's allocator, configured for a process that loads a model and then serves photos.

By default glibc keeps one arena per thread and returns freed memory reluctantly. That suits a general program, but is
tens of megabytes too many for one that allocates much while it loads and then the same few buffers for ever.

A timer gives memory back after a burst because no fixed threshold does as well. mallopt() with M_TRIM_THRESHOLD and
M_MMAP_THRESHOLD was measured beside it on 2 cores (virtual, other work on them): the variants ran at the same time and
took the requests in turn; medians of 4 rounds, with the range.

    =============================  ================  ================  ================  ================
    trim / mmap threshold in MiB   timer             neither           4 / 2             16 / 8
    =============================  ================  ================  ================  ================
    MiB, ready                     214 (214 to 214)  214 (214 to 214)  214 (214 to 215)  214 (214 to 214)
    MiB, after 48 of 12 megapixels 242 (237 to 253)  259 (219 to 303)  224 (222 to 227)  238 (226 to 246)
    MiB, 11 s later                224 (216 to 232)  259 (219 to 303)  224 (222 to 227)  238 (226 to 246)
    page faults, next request      580 (264 to 651)  0 (0 to 79)       0 (0 to 0)        0 (0 to 0)
    page faults, 1280 x 960 alone  0 (0 to 1)        1 (0 to 1)        1201 (all)        0 (0 to 1)
    ms of CPU, the same            29.8 (28.9-32.3)  28.1 (27.2-29.0)  31.6 (31.5-33.2)  28.3 (26.4-30.6)
    ms, p50, the same              30.8 (28.0-34.6)  30.6 (26.5-34.2)  32.4 (29.5-35.1)  29.3 (26.7-31.9)
    ms, p50, 500 x 375 alone       17.1 (14.1-21.2)  17.2 (14.4-23.8)  17.3 (13.8-22.0)  16.5 (13.8-21.6)
    =============================  ================  ================  ================  ================

Thresholds low enough to return the memory make every photo of a megapixel pay for fresh pages. Higher ones keep up to
30 MiB, and take a worker past the 90 MB that ``tests/supervisor`` allows it.
"""

from __future__ import annotations

import asyncio
import ctypes

_M_ARENA_MAX = -8  # <malloc.h>


def limit_arenas(cores: int) -> None:
    """Let threads share an arena for every two cores, two at least. Before any of them starts; needs glibc."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_ARENA_MAX, max(2, cores // 2))


def give_back() -> None:
    """Return freed memory to the system: after loading, when what was needed for it is garbage."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


#: Seconds. The next request pays for the memory in page faults: a tenth of its time, where requests come every two
#: seconds and each pays. So memory is given back only after a longer pause.
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
