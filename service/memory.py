"""The C library's allocator, told what kind of process this is.

glibc keeps an arena for each thread and gives freed memory back reluctantly: reasonable for a general program, tens of
megabytes too many for one that allocates much while it loads and then the same few buffers for ever.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # <malloc.h>


def limit_arenas(count: int) -> None:
    """Let all threads share ``count`` arenas. Before any thread starts; without effect where there is no glibc."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_ARENA_MAX, count)


def give_back() -> None:
    """Return freed memory to the system: after loading, when what was needed for it is garbage."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None
