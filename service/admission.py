"""The one limit on work in the process, taken before any of it is done.

A request takes a permit before its body is read, as heavy as the body may become, and widens it once headers tell
how large its images are, so that one limit bounds bodies, decoding, queue and memory together. No waiting: no room
means 503 at once, with a ``retry_after`` from the rate at which work has been finishing.

Used from the event loop's thread alone, hence without a lock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from service.errors import Overloaded

#: An image weighs 1, and one more for every so many pixels; a body 1, and one more for every so many bytes. Sixteen
#: requests of the largest default size (50 MP, 16 MiB) fit into the default limit together, and bodies in flight
#: cannot exceed limit × BYTES_PER_UNIT, half a gigabyte.
PIXELS_PER_UNIT = 8_000_000
BYTES_PER_UNIT = 2 * 2**20

#: The finishing rate is an average over about this many busy seconds.
_RATE_WINDOW_S = 2.0

#: Nobody should stay away longer on the word of an estimate.
_MAX_RETRY_AFTER_S = 30


def image_weight(pixels: int) -> int:
    """Units that an image of ``pixels`` pixels takes."""
    return 1 + pixels // PIXELS_PER_UNIT


def body_weight(size: int) -> int:
    """Units that a body of ``size`` bytes takes."""
    return 1 + size // BYTES_PER_UNIT


class Admission:
    """Counts units in flight against ``limit``."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.in_flight = 0
        self._clock = clock
        self._rate = 0.0  # units finished a busy second
        self._finished = 0  # … of the window that is being measured
        self._busy = 0.0  # seconds with anything in flight, likewise
        self._busy_since = 0.0

    def admit(self, units: int = 1) -> Permit:
        """A permit of ``units``, or Overloaded.

        A request heavier than the whole limit is served when it is alone rather than never.
        """
        return Permit(self, self._take(min(units, self.limit)))

    def retry_after(self) -> int:
        """Whole seconds until what is in flight now will probably have finished."""
        self._account()
        rate = self._rate or (self._finished / self._busy if self._busy > 0 else 0.0)
        if rate == 0.0:
            return 1
        return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(self.in_flight / rate)))

    def _take(self, units: int) -> int:
        if self.in_flight + units > self.limit:
            raise Overloaded("the service is at its limit of images in flight", retry_after=self.retry_after())
        if self.in_flight == 0:
            self._busy_since = self._clock()
        self.in_flight += units
        return units

    def _give_back(self, units: int) -> None:
        self._finished += units
        self._account()
        self.in_flight -= units

    def _account(self) -> None:
        """Add the busy time since the last look, and fold a full window into the rate. Idle time says nothing."""
        now = self._clock()
        if self.in_flight > 0:
            self._busy += now - self._busy_since
        self._busy_since = now
        if self._busy >= _RATE_WINDOW_S:
            measured = self._finished / self._busy
            self._rate = measured if self._rate == 0.0 else (self._rate + measured) / 2
            self._busy = 0.0
            self._finished = 0


class Permit:
    """Units held by one request; a context manager that gives them back."""

    def __init__(self, admission: Admission, units: int) -> None:
        self._admission = admission
        self.units = units

    def widen(self, units: int) -> None:
        """Hold at least ``units`` in all, or raise Overloaded and keep what was held."""
        wanted = min(units, self._admission.limit)
        if wanted > self.units:
            self.units += self._admission._take(wanted - self.units)

    def __enter__(self) -> Permit:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._admission._give_back(self.units)
        self.units = 0
