"""Which requests a canary answers, and when it is taken out of rotation because it fares worse than stable.

The split is by a hash of a key: the same key goes to the same version in every process and replica, and a higher
percentage only moves keys to the canary. What takes a canary out is a comparison with stable at the same time, so that
trouble that both have (a bad device, a busy machine) is not held against it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from zlib import crc32

from service.metrics import Metrics
from service.serving.intake import Answer, Outcome

logger = logging.getLogger(__name__)

#: How many of the canary's last images are looked at, and of each version's times.
IMAGES = 200
#: Times older than this do not count: how long an inference takes depends on what else the machine does. Failures count
#: whatever their age, else a canary with little traffic could fail for ever.
TIMES_S = 120.0
#: Fewer times than these of each version are not compared.
_ENOUGH = 50
#: A time is slow above this multiple of what 95 % of stable's take.
_SLOW = 2.0
_SLOW_SHARE = 0.05
#: This many failed or slow images are too many if stable has none; else, beyond its share, this many and as many
#: standard deviations of chance.
_FEWEST = 3
_DEVIATIONS = 4.0


def in_canary(model: str, key: bytes, percent: float) -> bool:
    """Whether ``key`` is among the ``percent`` of all keys that ``model``'s canary answers."""
    return crc32(b"%b\0%b" % (model.encode(), key)) % 10_000 < percent * 100


class CanaryHealth:
    """Compares a canary's last images with stable's. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        #: Why the canary is out of rotation; final.
        self.held: str | None = None
        #: The same in one word, ``errors`` or ``slow``.
        self.reason = ""
        self._clock = clock
        self._stable_images = self._stable_failures = 0
        #: Of the canary's last images: whether it failed, and the two counts of stable when it came.
        self._last: deque[tuple[bool, int, int]] = deque(maxlen=IMAGES)
        #: When, and how long, by version (canary or stable) and size of the batch.
        self._times: dict[tuple[bool, int], deque[tuple[float, float]]] = {}

    def record(self, canary: bool, ok: bool, infer_s: float, batch_size: int = 1) -> None:
        """The fate of one image. Not ``ok``: it failed through no fault of its sender, and its time does not count.

        Times are compared among batches of one size: a canary that gets few images has smaller batches than stable.
        """
        if ok:
            times = self._times.setdefault((canary, batch_size), deque(maxlen=IMAGES))
            times.append((self._clock(), infer_s))
        if not canary:
            self._stable_images += 1
            self._stable_failures += not ok
            return
        self._last.append((not ok, self._stable_images, self._stable_failures))
        if self.held is None and (why := self._too_slow(batch_size) if ok else self._too_many_failures()):
            self.held, self.reason = why, "slow" if ok else "errors"

    def _too_many_failures(self) -> str:
        failures = sum(failed for failed, _, _ in self._last)
        _, images, failed = self._last[0]
        share = max(
            (self._stable_failures - failed) / max(1, self._stable_images - images),
            # What stable fails on rarely may be missing from that short time.
            self._stable_failures / max(1, self._stable_images),
        )
        if not _too_many(failures, len(self._last), share):
            return ""
        return f"{failures} of its last {len(self._last)} images failed, and {share:.1%} of stable's"

    def _too_slow(self, batch_size: int) -> str:
        canary, stable = (self._recent(version, batch_size) for version in (True, False))
        if min(len(canary), len(stable)) < _ENOUGH:
            return ""
        usual = sorted(stable)[math.ceil((1 - _SLOW_SHARE) * len(stable)) - 1]
        slow = sum(seconds > _SLOW * usual for seconds in canary)
        if not _too_many(slow, len(canary), _SLOW_SHARE):
            return ""
        return (
            f"{slow} of its last {len(canary)} images took more than {_SLOW * usual * 1e3:.1f} ms of inference, "
            f"{_SLOW:g} times what 95 % of stable's take"
        )

    def _recent(self, canary: bool, batch_size: int) -> list[float]:
        oldest = self._clock() - TIMES_S
        return [seconds for at, seconds in self._times.get((canary, batch_size), ()) if at >= oldest]


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
