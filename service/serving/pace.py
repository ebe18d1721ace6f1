"""How long an image that comes now would take, from those that were answered lately.

The HTTP layer reports every image that it hands to the engine and every answer; it asks before it reads a request, and
again before it hands over, whether the deadline can be kept, and what to say in Retry-After. Nothing is assumed about
runners, batches or decoders: an image that found n units before it and took t seconds says that a unit costs
t ÷ (n + its own). Alone that is the whole latency of an image; under load it becomes what the queue really moves at.

Used from the event loop's thread alone, hence without a lock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

#: One answer's share in the average: the last few dozen answers count.
_SHARE = 1 / 32

#: With fewer units before it, an image says what it costs at most: much of its time was its own, not the queue's.
_CROWD = 8

#: Under a flood the queue is always as long as the estimate allows, so that half of those it lets in at its edge would
#: be late. Long waits scatter by some per cent of themselves, short ones by up to this many seconds.
_SCATTER = 1.25
_SCATTER_S = 0.1

#: Nobody should stay away longer on the word of an estimate.
_MAX_RETRY_AFTER_S = 30


class Pace:
    """Units waiting in the engine, and the seconds that one of them costs."""

    def __init__(self) -> None:
        self.waiting = 0
        self._seconds = 0.0  # a unit; 0: not known

    def seed(self, batch_cost: Mapping[int, float]) -> None:
        """Until something was answered, go by the engine's cost curve: batch size to seconds, measured at warm-up."""
        if batch_cost and not self.known:
            self._seconds = min(seconds / size for size, seconds in batch_cost.items())

    @property
    def known(self) -> bool:
        return self._seconds > 0.0

    def enter(self, units: int) -> int:
        """An image of ``units`` is handed over. Returns the units it finds waiting, its own among them."""
        self.waiting += units
        return self.waiting

    def leave(self, units: int) -> None:
        """… and has been answered, failed or given up."""
        self.waiting -= units

    def observe(self, found: int, seconds: float) -> None:
        """An image that found ``found`` units was answered after ``seconds``."""
        cost = seconds / found
        if not self.known:
            self._seconds = cost
        elif found >= _CROWD or cost < self._seconds:
            self._seconds += _SHARE * (cost - self._seconds)

    def observe_late(self, found: int, seconds: float) -> None:
        """… had no answer yet after ``seconds``: it costs at least that much."""
        if seconds > found * self._seconds:
            self.observe(found, seconds)

    def hopeless(self, units: int, remaining: float) -> bool:
        """Whether an image of ``units`` that came now could not count on an answer within ``remaining`` seconds."""
        wait = self.wait(units)
        return wait * _SCATTER + min(wait, _SCATTER_S) > remaining

    def wait(self, units: int = 1) -> float:
        """Seconds until an image of ``units`` that came now would be answered; 0 if it would be alone.

        Alone it is tried whatever the average says: it is what corrects an average that is wrong.
        """
        return (self.waiting + units) * self._seconds if self.waiting else 0.0

    def retry_after(self) -> int:
        """Whole seconds until what is waiting now will have been answered."""
        return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(self.wait(0))))
