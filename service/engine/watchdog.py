"""Watches the engine's threads: whether one is late, whether all batches fail, and when that is final.

    threads ─► decoding, inferring, idle, report ─► Watchdog ─► health ─► readiness
                                                            └─► tick, once per second ─► Verdict: the process must end

Each step costs its thread one assignment to a dictionary. ADR 11 has the reasons for the limits.
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

#: Seconds between ticks. Final verdicts depend on ticks, not on time: a process that is stopped or starved makes no
#: ticks meanwhile.
TICK_S = 1.0

#: A forward pass is late after this many times its usual time, but not before ``INFER_FLOOR_S``: on a busy machine a
#: few milliseconds can become hundreds.
LATE = 2.0
INFER_FLOOR_S = 1.0

#: A decode is late after this time plus the time per pixel that its header declares.
DECODE_FLOOR_S = 5.0
DECODE_PIXEL_S = 5e-7

#: Number of ticks for which one step may be late.
HUNG_AFTER = 10

#: Number of ticks with a failure since the last success. While all batches fail, each tick infers a probe image.
FAILED_AFTER = 30

#: Weight of one observation in the usual time.
_WEIGHT = 1 / 16

Health = Literal["ready", "late", "failing"]


class Verdict(NamedTuple):
    """Why the process must end. ``reason`` is for its operator."""

    end: Literal["hung", "failed"]
    reason: str


class Watchdog:
    """One per engine. Thread-safe without a lock: a race between two threads delays a verdict by at most a tick."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[int, float] = {}  # by thread: when its current step should be finished
        self._image_s: dict[str, float] = {}  # by model: usual seconds of a forward pass, per image
        self._suspect = math.inf  # the due time of the step that was late at the last tick
        self._late_ticks = 0  # number of ticks for which it has been late
        self._failures: dict[str, int] = {}  # by model: batches that failed completely since its last success
        self._failures_seen = 0
        self._failed_ticks = 0

    def expect(self, image_s: float, model: str = "") -> None:
        """Set the usual seconds of a forward pass of ``model`` per image, as measured at warm-up."""
        self._image_s[model] = image_s

    def forget(self, model: str) -> None:
        """``model`` has been unloaded."""
        self._image_s.pop(model, None)
        self._failures.pop(model, None)

    def decoding(self, pixels: int | None) -> None:
        """The calling thread begins to decode ``pixels`` pixels; None: unknown, so there is no limit."""
        allowed = math.inf if pixels is None else DECODE_FLOOR_S + pixels * DECODE_PIXEL_S
        self._due[threading.get_ident()] = self._clock() + allowed

    def inferring(self, images: int, model: str = "") -> None:
        """The calling thread begins a forward pass."""
        allowed = max(INFER_FLOOR_S, LATE * images * self._image_s.get(model, 0.0))
        self._due[threading.get_ident()] = self._clock() + allowed

    def inferred(self, images: int, seconds: float, model: str = "") -> None:
        """A forward pass has succeeded. Its time per image counts alike for all batch sizes."""
        usual = self._image_s.get(model, 0.0)
        self._image_s[model] = usual + _WEIGHT * (seconds / images - usual)

    def idle(self) -> None:
        """The calling thread has finished its step. A thread that dies without this call becomes late."""
        self._due[threading.get_ident()] = math.inf

    def report(self, inferred: bool, model: str = "") -> None:
        """A batch of ``model`` is finished; ``inferred``: at least one of its images succeeded."""
        if not inferred:
            self._failures[model] = self._failures.get(model, 0) + 1
        elif self._failures.pop(model, 0):
            self._failures_seen = self._failed_ticks = 0

    @property
    def health(self) -> Health:
        """Failing only if every model is."""
        return self._health(self._all_fail())

    def health_of(self, model: str) -> Health:
        return self._health(model in self._failures)

    def _health(self, failing: bool) -> Health:
        if self._earliest()[0] < self._clock():
            return "late"
        return "failing" if failing else "ready"

    def _all_fail(self) -> bool:
        return bool(self._failures) and self._failures.keys() >= self._image_s.keys()

    def tick(self) -> Verdict | None:
        """To be called every ``TICK_S`` seconds; a verdict if the process must end."""
        due, thread = self._earliest()
        if due >= self._clock():
            self._late_ticks = 0
        else:
            # An equal due time means the same step: several steps that are each a little late are not a hang.
            self._late_ticks = self._late_ticks + 1 if due == self._suspect else 1
            self._suspect = due
            if self._late_ticks == 1:
                logger.error("a thread is late", extra={"fields": {"thread": _name(thread), "at": _place(thread)}})
            if self._late_ticks > HUNG_AFTER:
                return Verdict("hung", f"{_name(thread)} does not come back from {_place(thread)}")
        # Without a new failure the tick does not count: a probe may be waiting behind a long decode.
        failures = sum(list(self._failures.values()))
        if self._all_fail() and failures > self._failures_seen:
            self._failures_seen = failures
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
        """Tick while ``serving`` returns True, or until a verdict, which is passed to ``end``.

        While all batches of a model fail, ``probe`` is called after each tick unless the last call is still running.
        """
        running_probe: asyncio.Future[object] | None = None
        while serving():
            if verdict := self.tick():
                end(verdict)
                return
            if probe is not None and self._failures and (running_probe is None or running_probe.done()):
                running_probe = asyncio.ensure_future(probe())
            await asyncio.sleep(TICK_S)

    def _earliest(self) -> tuple[float, int]:
        return min(((due, thread) for thread, due in list(self._due.items())), default=(math.inf, 0))


def _name(thread: int) -> str:
    return next((known.name for known in threading.enumerate() if known.ident == thread), "a thread that has ended")


def _place(thread: int) -> str:
    """The Python line that ``thread`` is executing, for a bug report."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "its end"
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
