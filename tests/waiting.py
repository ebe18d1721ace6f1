"""Waiting on a condition: never on a time. And times that do not depend on the machine's speed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from service.engine import watchdog
from service.engine.client import EngineClient

QUICK_FLOOR_S = 0.1


def until(condition: Callable[[], bool], *, timeout: float, what: str, every: float = 0.1) -> None:
    """Return as soon as ``condition`` holds; AssertionError with ``what`` if it does not within ``timeout`` seconds."""
    ends = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < ends, f"not within {timeout:g} s: {what}"
        time.sleep(every)


def soon(seconds: float = 30.0) -> float:
    """A deadline of ``EngineClient.infer``."""
    return time.monotonic() + seconds


class Clock:
    """Time that moves when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import it: a step is late after ``QUICK_FLOOR_S``."""
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    monkeypatch.setattr(watchdog, "INFER_FLOOR_S", QUICK_FLOOR_S)
    monkeypatch.setattr(watchdog, "DECODE_FLOOR_S", QUICK_FLOOR_S)


async def eventually(condition: Callable[[], bool]) -> None:
    """The same on an event loop; TimeoutError after half a minute."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # it turns on another thread or process, or by a tick
            await asyncio.sleep(0.001)


async def until_ready(engine: EngineClient) -> None:
    async with asyncio.timeout(30):
        while not (await engine.ready()).ok:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
