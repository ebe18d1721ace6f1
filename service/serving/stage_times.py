"""The times of one request by stage, for the histograms and the ``Server-Timing`` header."""

from __future__ import annotations

from service.metrics import STAGES, ModelMetrics


class StageTimes:
    """Seconds by stage. For several images, a stage's time is that of the slowest image."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def add(self, stage: str, seconds: float) -> None:
        """Record one image's time in ``stage``."""
        if seconds > self._seconds.get(stage, -1.0):
            self._seconds[stage] = seconds

    def observe(self, metrics: ModelMetrics) -> None:
        for stage, seconds in self._seconds.items():
            metrics.stages[stage].observe(seconds)

    def header(self) -> str:
        """``read;dur=0.1, decode;dur=1.8, …`` in milliseconds, in the order of stages, without those not reached."""
        return ", ".join(f"{stage};dur={self._seconds[stage] * 1e3:.2f}" for stage in STAGES if stage in self._seconds)
