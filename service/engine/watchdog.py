"""How the engine's threads are doing: is one of them late, does everything fail, and when is that final?

    threads ─► decoding, inferring, idle, report ─► Watchdog ─► health ─► readiness, whenever it is asked for
                                                            └─► tick, once a second ─► Verdict: the process must go

A step costs a working thread one entry in a dictionary. ADR 11 has the reasons for the bounds.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import PurePath
from typing import Literal, NamedTuple

logger = logging.getLogger(__name__)

#: Seconds between ticks. What is final is counted in ticks, not in time: a process that was stopped or starved does
#: not tick meanwhile, and is not blamed for it.
TICK_S = 1.0

#: A forward pass is late after this many times its usual time, but not before ``INFER_FLOOR_S``: a few milliseconds
#: on a machine with other things to do may well become some hundred.
LATE = 2.0
INFER_FLOOR_S = 1.0

#: A decode is late after so long, more for each pixel that its header declares.
DECODE_FLOOR_S = 5.0
DECODE_PIXEL_S = 5e-7

#: Ticks for which one step may be late.
HUNG_AFTER = 10

#: Ticks since the last success in which something failed. While all fails, the engine infers a probe image per tick.
FAILED_AFTER = 30

#: How fast the usual time follows what is observed.
_WEIGHT = 1 / 16

Health = Literal["ready", "late", "failing"]


class Verdict(NamedTuple):
    """Why the process cannot go on. ``reason`` is for its operator."""

    end: Literal["hung", "failed"]
    reason: str


class Watchdog:
    """One an engine; thread-safe, in that a race between two threads costs at most a tick."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[int, float] = {}  # by thread: when what it is doing should be done
        self._image_s = 0.0  # usual seconds of a forward pass, for each image
        self._suspect = math.inf  # the due time that was late at the last tick …
        self._late_ticks = 0  # … and for how many ticks it has been
        self._failures = 0  # batches that failed as a whole since one succeeded
        self._failures_seen = 0
        self._failed_ticks = 0

    def expect(self, image_s: float) -> None:
        """Start from this usual time of a forward pass per image, in seconds, measured at warm-up."""
        self._image_s = image_s

    def decoding(self, pixels: int | None) -> None:
        """The calling thread begins to decode; None: nobody knows how much, and it is not watched."""
        allowed = math.inf if pixels is None else DECODE_FLOOR_S + pixels * DECODE_PIXEL_S
        self._due[threading.get_ident()] = self._clock() + allowed

    def inferring(self, images: int) -> None:
        """The calling thread begins a forward pass."""
        allowed = max(INFER_FLOOR_S, LATE * images * self._image_s)
        self._due[threading.get_ident()] = self._clock() + allowed

    def inferred(self, images: int, seconds: float) -> None:
        """A forward pass has succeeded in this time. Batches cost no more an image than single images do."""
        self._image_s += _WEIGHT * (seconds / images - self._image_s)

    def idle(self) -> None:
        """The calling thread has finished. One that dies instead stays late."""
        self._due[threading.get_ident()] = math.inf

    def report(self, inferred: bool) -> None:
        """A batch is over; ``inferred``: at least one of its images was."""
        if not inferred:
            self._failures += 1
        elif self._failures:
            self._failures = self._failures_seen = self._failed_ticks = 0

    @property
    def health(self) -> Health:
        if self._earliest()[0] < self._clock():
            return "late"
        return "failing" if self._failures else "ready"

    def tick(self) -> Verdict | None:
        """To be called every ``TICK_S`` seconds; a verdict once there is no hope."""
        due, thread = self._earliest()
        if due >= self._clock():
            self._late_ticks = 0
        else:
            # The same due time is the same step: many steps that are each a little late are no hang.
            self._late_ticks = self._late_ticks + 1 if due == self._suspect else 1
            self._suspect = due
            if self._late_ticks == 1:
                logger.error("a thread is late", extra={"fields": {"thread": _name(thread), "at": _place(thread)}})
            if self._late_ticks > HUNG_AFTER:
                return Verdict("hung", f"{_name(thread)} does not come back from {_place(thread)}")
        # No evidence, no count: a probe may be waiting behind a long decode.
        if self._failures > self._failures_seen:
            self._failures_seen = self._failures
            self._failed_ticks += 1
            if self._failed_ticks > FAILED_AFTER:
                return Verdict("failed", "the model fails on every image, the probe image included; see the log")
        return None

    async def keep(
        self,
        *,
        serving: Callable[[], bool],
        end: Callable[[Verdict], object],
        probe: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Tick for as long as ``serving`` says so; a verdict goes to ``end`` and is the last tick.

        While the model fails, ``probe`` is called after each tick unless the previous call is still under way.
        """
        under_way: asyncio.Future[object] | None = None
        while serving():
            if verdict := self.tick():
                end(verdict)
                return
            if probe is not None and self.health == "failing" and (under_way is None or under_way.done()):
                under_way = asyncio.ensure_future(probe())
            await asyncio.sleep(TICK_S)

    def _earliest(self) -> tuple[float, int]:
        return min(((due, thread) for thread, due in list(self._due.items())), default=(math.inf, 0))


def _name(thread: int) -> str:
    return next((known.name for known in threading.enumerate() if known.ident == thread), "a thread that has ended")


def _place(thread: int) -> str:
    """The Python line that ``thread`` is at, for an operator's bug report."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "its end"
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
