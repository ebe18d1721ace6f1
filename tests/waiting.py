"""Waiting on a condition."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], *, timeout: float, what: str, every: float = 0.1) -> None:
    """Return as soon as ``condition`` holds; AssertionError with ``what`` if it does not within ``timeout`` seconds."""
    ends = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < ends, f"not within {timeout:g} s: {what}"
        time.sleep(every)
