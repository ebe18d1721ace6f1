"""The life of the process: it starts, is ready, drains and ends with an exit status.

    starting ─► serving ─► draining ─► ended
       SIGTERM, SIGINT or ``fail`` begin the drain; a second signal ends the process at once

Transports stop when ``on_drain`` tells them to; they know nothing of each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType

logger = logging.getLogger(__name__)


class Lifecycle:
    """One per process; made on the event loop that serves, and used from it."""

    def __init__(self, drain_s: float) -> None:
        """``drain_s``: seconds that work under way may take from the beginning of the drain."""
        self.drain_s = drain_s
        #: Readiness is off and answers close their connections. Requests that still arrive are answered all the same:
        #: refusing what can be answered helps nobody (ADR 6).
        self.draining = False
        self.failure: str | None = None
        self.exit_status = 0
        self._ends = math.inf  # time.monotonic()
        self._signalled = False
        self._on_drain: list[Callable[[], object]] = []
        self._loop = asyncio.get_running_loop()

    def on_drain(self, stop: Callable[[], object]) -> None:
        """``stop`` is called once, when the drain begins; at once if it has begun."""
        if self.draining:
            stop()
        else:
            self._on_drain.append(stop)

    def drain(self) -> None:
        """Begin to drain. A drain has one end, whatever happens meanwhile."""
        if self.draining:
            return
        self.draining = True
        self._ends = time.monotonic() + self.drain_s
        for stop in self._on_drain:
            stop()

    def fail(self, reason: str, exit_status: int) -> None:
        """Drain, because of ``reason``; the process then ends with ``exit_status``. The first failure stays."""
        if self.failure is None:
            self.failure, self.exit_status = reason, exit_status
        self.drain()

    async def close(self, what: str, closing: Awaitable[object]) -> int:
        """Wait for ``closing`` in what is left of the drain, one second at least; returns the exit status.

        ``what`` names, for the log, what did not close in time.
        """
        left = max(1.0, self._ends - time.monotonic())  # the drain's time is spent once: transports have used some
        try:
            await asyncio.wait_for(closing, left)
        except TimeoutError:
            logger.error("%s did not finish in time and was cut off", what)
        if self.failure is None:
            logger.info("stopped")
        else:
            sys.stderr.write(f"error: {self.failure}\n")
        return self.exit_status

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT begin the drain while the block runs. For the main thread."""
        handled = (signal.SIGTERM, signal.SIGINT)
        previous = {number: signal.signal(number, self.handle_signal) for number in handled}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_signal(self, number: int, frame: FrameType | None) -> None:
        """Runs amid anything, also while a line of the log is being written, when another line would raise."""
        if self._signalled or self.draining:
            try:
                logger.warning("a second signal: ended at once")
            finally:
                os._exit(128 + number)
        self._signalled = True
        self._loop.call_soon_threadsafe(self._drain_for, number)

    def _drain_for(self, number: int) -> None:
        logger.info("draining", extra={"fields": {"signal": int(number)}})
        self.drain()
