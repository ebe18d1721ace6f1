"""The life of the process from start to exit status.

    serving ─► draining ─► ended

SIGTERM, SIGINT, SIGQUIT or ``fail`` begin the drain, which stops all transports registered with ``on_drain``; a second
signal ends the process at once. SIGHUP makes what is registered with ``on_reload`` read its files again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType

from service.config import Settings
from service.host.process import say

logger = logging.getLogger(__name__)

#: Begin the drain.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def read_keys_again(settings: Settings) -> tuple[str, ...] | None:
    """The API keys as they are in the file now. None, which is logged, if there is no file or no key in it."""
    if settings.api_keys_file is None:
        logger.info("there is no file of keys to read again")
        return None
    try:
        keys = settings.accepted_keys()
    except ValueError as error:
        logger.error("the keys stay as they were: api_keys_file %s", error)
        return None
    logger.info("the keys have been read again", extra={"fields": {"keys": len(keys)}})
    return keys


class Lifecycle:
    """One per process; created on and used from its event loop."""

    def __init__(self, drain_s: float) -> None:
        """``drain_s``: seconds that running requests may take from the beginning of the drain."""
        self.drain_s = drain_s
        #: Whether another process has taken this one's place at the listener. Connections are closed then, too, but the
        #: service goes on.
        self.replaced = False
        #: While True, the service reports that it is not ready and closes connections after their answers. It still
        #: answers requests that arrive (ADR 6).
        self.draining = False
        self.failure: str | None = None
        self.exit_status = 0
        self._drained_by = math.inf  # time.monotonic() seconds
        self._signalled = False
        self._on_drain: list[Callable[[], object]] = []
        self._on_reload: list[Callable[[], object]] = []
        self._loop = asyncio.get_running_loop()

    def on_drain(self, stop: Callable[[], object]) -> None:
        """Call ``stop`` once when the drain begins, or now if it has begun."""
        if self.draining:
            stop()
        else:
            self._on_drain.append(stop)

    def on_reload(self, read_again: Callable[[], object]) -> None:
        """Call ``read_again``, which must not raise, on the event loop at every SIGHUP."""
        self._on_reload.append(read_again)

    def drain(self) -> None:
        """Begin to drain. Later calls change nothing."""
        if self.draining:
            return
        self.draining = True
        self._drained_by = time.monotonic() + self.drain_s
        for stop in self._on_drain:
            stop()

    def fail(self, reason: str, exit_status: int) -> None:
        """Drain because of ``reason``, then end with ``exit_status``. The first failure wins."""
        if self.failure is None:
            self.failure, self.exit_status = reason, exit_status
        self.drain()

    async def close(self, what: str, closing: Awaitable[object]) -> int:
        """Wait for ``closing`` for the rest of the drain, at least one second; returns the exit status.

        ``what`` names, for the log, what is being closed.
        """
        remaining = max(1.0, self._drained_by - time.monotonic())  # the transports have used some of it
        try:
            await asyncio.wait_for(closing, remaining)
        except TimeoutError:
            logger.error("%s did not finish in time and was cut off", what)
        if self.failure is None:
            logger.info("stopped")
        else:
            say(f"error: {self.failure}")
        return self.exit_status

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """While the block runs, ``STOPPING`` begin the drain and SIGHUP reloads. For the main thread."""
        previous = {number: signal.signal(number, self.handle_signal) for number in STOPPING}
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._handle_reload)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handle_reload(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(lambda: [read_again() for read_again in self._on_reload])

    def handle_signal(self, number: int, frame: FrameType | None) -> None:
        """May interrupt any code, even a write to the log, during which another write would raise."""
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
