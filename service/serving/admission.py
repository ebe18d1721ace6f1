"""Admission of requests: one limit on all work in the process, and an estimate of how long an image would wait.

A request takes a permit before its body is read, with a weight for the body's size. It widens the permit when the
images' headers have been read. So one limit bounds bodies, decoding, queue and memory together. Nothing here waits:
without room, or without enough time before the deadline, the request is refused with 503 at once. With a limit per
client, one that exceeds its share is refused with 429.

Used only from the event loop's thread, hence without a lock.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from service.errors import DeadlineExceeded, Overloaded, TooManyRequests

#: An image weighs 1 plus its pixels / PIXELS_PER_UNIT, a body 1 plus its bytes / BYTES_PER_UNIT, rounded down. So the
#: default limit admits 16 requests of the largest default size (50 MP, 16 MiB) at once, and all bodies in flight are
#: smaller than limit × BYTES_PER_UNIT, half a gigabyte.
PIXELS_PER_UNIT = 8_000_000
BYTES_PER_UNIT = 2 * 2**20

#: Weight of one observation in the moving average, which covers the last few dozen answers.
_WEIGHT = 1 / 32
#: With fewer units in the engine, an observation may lower the average but not raise it: much of the image's time was
#: its own work, not the queue.
_CROWD = 8
#: Safety margin of the estimate. Under overload the queue sits exactly at the admission threshold, so without a margin
#: half of the requests admitted there would miss their deadline. Long waits vary by a percentage, short ones by up to
#: this many seconds.
_MARGIN = 1.25
_MARGIN_S = 0.1
#: The longest Retry-After, because it is only an estimate.
_MAX_RETRY_AFTER_S = 30


def image_weight(pixels: int) -> int:
    """Units of an image of ``pixels`` pixels."""
    return 1 + pixels // PIXELS_PER_UNIT


def body_weight(size: int) -> int:
    """Units of a body of ``size`` bytes."""
    return 1 + size // BYTES_PER_UNIT


class Admission:
    """Counts units in flight against ``limit`` and each client's units against ``share`` of it; estimates the wait.

    The estimate makes no assumptions about runners, batches or decoders. If an image is answered after t seconds and n
    units were in the engine when it came, including its own, one unit took t / n. For an image that was alone this is
    its whole latency; under load it converges to the time per unit of the queue.
    """

    def __init__(
        self,
        limit: int,
        *,
        share: float = 1.0,
        on_release: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_release`` is called each time a permit is given back."""
        self.limit = limit
        self._on_release = on_release
        self._clock = clock
        self.in_flight = 0
        self._client_limit = max(1, int(limit * share))
        self._clients: Counter[str] | None = Counter() if share < 1.0 else None
        self._in_engine = 0  # units
        self._unit_s = 0.0  # seconds per unit; 0: unknown

    def seed(self, batch_cost: Mapping[int, float]) -> None:
        """Initialise the estimate from the engine's costs: batch size to seconds of a forward pass."""
        if batch_cost and not self._unit_s:
            self._unit_s = min(seconds / size for size, seconds in batch_cost.items())

    def admit(self, units: int = 1, client: str = "", deadline: float = math.inf, *, low: bool = False) -> Permit:
        """A permit of ``units``. ``deadline`` is in time.monotonic() seconds. ``low``: half of the limit stays free.

        Raises Overloaded if there is no room or no time, TooManyRequests if ``client`` exceeds its share. A request
        heavier than the limit is admitted when nothing else is in flight, one heavier than a client's share when the
        client has nothing else in flight.
        """
        permit = Permit(self, client, max(1, self.limit // 2) if low else self.limit)
        permit.widen(units)
        try:
            self.check_time(1, deadline)
        except Overloaded:
            permit.release()
            raise
        return permit

    def check_time(self, units: int, deadline: float) -> None:
        """Raise Overloaded if images of ``units`` units would probably not be answered before ``deadline``."""
        wait = self.estimated_wait(units)
        if wait * _MARGIN + min(wait, _MARGIN_S) > deadline - self._clock():
            raise Overloaded("the queue is too long for this request's deadline", retry_after=self.retry_after())

    def estimated_wait(self, units: int = 1) -> float:
        """Seconds until images of ``units`` units would be answered; 0 if the engine is empty.

        An image for an empty engine is always admitted: it corrects an average that is wrong.
        """
        return (self._in_engine + units) * self._unit_s if self._in_engine else 0.0

    def retry_after(self) -> int:
        """Whole seconds until the units now in the engine have been answered."""
        return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(self.estimated_wait(0))))

    @contextmanager
    def in_engine(self, units: int) -> Iterator[None]:
        """The block infers one image of ``units`` units; its duration updates the estimate."""
        self._in_engine += units
        ahead, started = self._in_engine, self._clock()
        try:
            yield
        except DeadlineExceeded:
            # It costs at least the time that it has waited.
            if self._clock() - started > ahead * self._unit_s:
                self._observe(ahead, self._clock() - started)
            raise
        else:
            self._observe(ahead, self._clock() - started)
        finally:
            self._in_engine -= units

    def _observe(self, ahead: int, seconds: float) -> None:
        cost = seconds / ahead
        if not self._unit_s:
            self._unit_s = cost
        elif ahead >= _CROWD or cost < self._unit_s:
            self._unit_s += _WEIGHT * (cost - self._unit_s)


@dataclass(slots=True)
class Permit:
    """Units held by one request; a context manager that releases them."""

    admission: Admission
    client: str
    limit: int  # the most that may be in flight with it
    units: int = 0

    def widen(self, units: int) -> None:
        """Hold at least ``units`` in total, or raise and keep the units held so far."""
        admission = self.admission
        more = min(units, self.limit) - self.units
        if more <= 0:
            return
        if admission._clients is not None:
            held = admission._clients[self.client]
            if held > self.units and held + more > admission._client_limit:
                raise TooManyRequests(
                    "this client already has its share of images in flight", retry_after=admission.retry_after()
                )
        if admission.in_flight + more > self.limit:
            raise Overloaded("the service is at its limit of images in flight", retry_after=admission.retry_after())
        admission.in_flight += more
        if admission._clients is not None:
            admission._clients[self.client] += more
        self.units += more

    def release(self, *exc_info: object) -> None:
        """Release all units. Idempotent."""
        admission, units = self.admission, self.units
        self.units = 0
        admission.in_flight -= units
        if admission._clients is not None:
            admission._clients[self.client] -= units
            if not admission._clients[self.client]:
                del admission._clients[self.client]
        if admission._on_release is not None:
            admission._on_release()

    def __enter__(self) -> Permit:
        return self

    __exit__ = release
