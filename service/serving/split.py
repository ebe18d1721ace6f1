"""Which requests a canary answers, and when it is taken out of rotation because it fares worse than stable.

The split is by a hash of a key: the same key goes to the same version in every process and replica, and a higher
percentage only moves keys to the canary. What takes a canary out is a comparison with stable at the same time, so that
trouble that both have (a bad device, a busy machine) is not held against it.
"""

from __future__ import annotations

import logging
import math
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple
from zlib import crc32

from service.metrics import Metrics
from service.serving.intake import Answer, Outcome

logger = logging.getLogger(__name__)

#: How many of the canary's last images are looked at, and of stable's times.
IMAGES = 200
#: A time of the canary is compared with stable's of so many seconds before, because the machine may have other things
#: to do. The canary's images count whatever their age, else one with little traffic could fail for ever.
TIMES_S = 120.0
#: Fewer times than these of each version are not compared.
_ENOUGH = 50
#: A time is slow above this multiple of what 95 % of stable's took.
_SLOW = 2.0
_SLOW_SHARE = 0.05
#: This many failed or slow images are too many if stable has none; else, beyond its share, this many and as many
#: standard deviations of chance.
_FEWEST = 3
_DEVIATIONS = 4.0


def in_canary(model: str, key: bytes, percent: float) -> bool:
    """Whether ``key`` is among the ``percent`` of all keys that ``model``'s canary answers."""
    return crc32(b"%b\0%b" % (model.encode(), key)) % 10_000 < percent * 100


class _Counts(NamedTuple):
    """Of images: how many, how many of them failed, how many had a time that could be judged, how many were slow."""

    images: int = 0
    failed: int = 0
    timed: int = 0
    slow: int = 0


class _Times:
    """Stable's last times, as they came and in ascending order."""

    def __init__(self) -> None:
        self._arrived: deque[tuple[float, float]] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float, now: float) -> None:
        self._arrived.append((now, seconds))
        insort(self._sorted, seconds)
        if len(self._sorted) > IMAGES:
            self._drop()

    def is_slow(self, seconds: float, now: float) -> bool | None:
        """None: there are too few to compare with."""
        while self._arrived and self._arrived[0][0] < now - TIMES_S:
            self._drop()
        count = len(self._sorted)
        if count < _ENOUGH:
            return None
        return seconds > _SLOW * self._sorted[math.ceil((1 - _SLOW_SHARE) * count) - 1]

    def _drop(self) -> None:
        _, seconds = self._arrived.popleft()
        del self._sorted[bisect_left(self._sorted, seconds)]


class CanaryHealth:
    """Compares a canary's last images with stable's. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        #: Why the canary is out of rotation; final.
        self.held: str | None = None
        #: The same in one word, ``errors`` or ``slow``.
        self.reason = ""
        self._clock = clock
        self._stable = _Counts()
        self._stable_times: dict[int, _Times] = {}  # by size of the batch
        #: The canary's last images, and what stable's counts were when they came.
        self._last: deque[tuple[_Counts, _Counts]] = deque(maxlen=IMAGES)

    def record(self, canary: bool, ok: bool, infer_s: float, batch_size: int = 1) -> None:
        """The fate of one image. Not ``ok``: it failed through no fault of its sender, and its time does not count.

        Times are compared among batches of one size: a canary that gets few images has smaller batches than stable.
        """
        times = self._stable_times.setdefault(batch_size, _Times())
        now = self._clock()
        slow = times.is_slow(infer_s, now) if ok else None
        image = _Counts(1, not ok, slow is not None, slow is True)
        if not canary:
            self._stable = _sum((self._stable, image))
            if ok:
                times.add(infer_s, now)
            return
        self._last.append((image, self._stable))
        if self.held is None and (image.failed or image.slow):
            self._judge(_sum(of_canary for of_canary, _ in self._last), self._last[0][1])

    def _judge(self, canary: _Counts, then: _Counts) -> None:
        """``then``: stable's counts when the first of the canary's last images came."""
        # What stable fails on rarely may be missing from the time since.
        spans = (self._stable, _Counts(*(now - before for now, before in zip(self._stable, then, strict=True))))
        share = max(span.failed / max(1, span.images) for span in spans)
        if _too_many(canary.failed, canary.images, share):
            self.held = f"{canary.failed} of its last {canary.images} images failed, and {share:.1%} of stable's"
            self.reason = "errors"
            return
        share = max(_SLOW_SHARE, *(span.slow / max(1, span.timed) for span in spans))
        if canary.timed >= _ENOUGH and _too_many(canary.slow, canary.timed, share):
            self.held = (
                f"{canary.slow} of its last {canary.timed} images took over {_SLOW:g} times as long in inference "
                f"as {1 - _SLOW_SHARE:.0%} of stable's"
            )
            self.reason = "slow"


def _sum(counts: Iterable[_Counts]) -> _Counts:
    return _Counts(*map(sum, zip(*counts, strict=True)))


def _too_many(count: int, images: int, share: float) -> bool:
    """Whether ``count`` of ``images`` is more than chance makes of a true ``share``."""
    usual = images * share
    return count >= _FEWEST + usual + _DEVIATIONS * math.sqrt(usual)


class Split:
    """A model's canary, from one change of its aliases to the next."""

    def __init__(
        self, model: str, percent: float, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.health = CanaryHealth(clock)
        self._model = model
        self._percent = percent
        self._metrics = metrics

    @property
    def effective(self) -> float:
        """The percentage that the canary gets: none once it is held."""
        return 0.0 if self.health.held else self._percent

    def chooses(self, key: bytes) -> bool:
        """Whether the canary answers a request with this ``key``."""
        return in_canary(self._model, key, self.effective)

    def record(self, canary: bool, outcomes: Iterable[Outcome]) -> None:
        """What became of the images of a request that the canary, or stable, answered."""
        before = self.health.held
        for outcome in outcomes:
            if isinstance(outcome, Answer):
                self.health.record(canary, True, outcome.result.infer_s, outcome.result.batch_size)
            elif outcome.status == 500:  # all others are the sender's fault, or for want of time or room
                self.health.record(canary, False, 0.0)
        if self.health.held and not before:
            logger.error("%s: its canary is out of rotation: %s", self._model, self.health.held)
            self._metrics.rollbacks.labels(self._model, self.health.reason).inc()
            self._metrics.canary_percent.labels(self._model).set(0)
