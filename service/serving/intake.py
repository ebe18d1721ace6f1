"""From the bytes of images to their outcomes, for all transports.

    admit ─► (the transport reads the body) ─► inspect ─► infer: decode, batch, forward pass ─► outcomes

Whether a request can be answered before its deadline is checked before its body is read and again before its images go
to the engine: an early 503 is better than a late 504. An image's failure is that image's outcome; it is not raised and
does not affect other images.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from service.engine import InferResult, Priority
from service.errors import BodyTooLarge, ServiceError
from service.image import PREVIEW_SIDE, Header, Preview
from service.metrics import STAGES, Metrics, ModelMetrics
from service.serving.admission import BYTES_PER_UNIT, Admission, Permit, body_weight, image_weight
from service.serving.served import Served

#: Additional weight of a drawing. Each pixel takes four bytes in the preview, which the allocator may keep afterwards,
#: and little more than three in the PNG.
DRAWING_UNITS = 8 * PREVIEW_SIDE**2 // BYTES_PER_UNIT


class StageTimes:
    """Seconds by stage of one request; for several images, those of the slowest image in each stage."""

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


class Photo(NamedTuple):
    """One image of a request."""

    data: bytes
    header: Header | ServiceError


class Answer(NamedTuple):
    """An image's header and the engine's result."""

    header: Header
    result: InferResult


#: The answer or the error of one image.
Outcome = Answer | ServiceError


class Intake:
    """Shared by all requests of a process, whatever their model and transport. Used from one event loop."""

    def __init__(self, admission: Admission, metrics: Metrics, *, max_body_bytes: int, timeout_s: float) -> None:
        self.admission = admission
        self.max_body_bytes = max_body_bytes
        self._metrics = metrics
        self._timeout_s = timeout_s
        metrics.watch(metrics.in_flight, lambda: admission.in_flight)
        metrics.in_flight_limit.set(admission.limit)

    def deadline(self, timeout_ms: int | None) -> float:
        """The deadline of a request that arrives now, in time.monotonic() seconds.

        ``timeout_ms`` is the client's own limit, which can only be shorter than the service's.
        """
        timeout_s = self._timeout_s if timeout_ms is None else min(timeout_ms / 1e3, self._timeout_s)
        return time.monotonic() + timeout_s

    def admit(self, body_bytes: int | None, deadline: float, client: str = "", extra_units: int = 0) -> Permit:
        """A permit for a request with a body of ``body_bytes``; None: unknown, so the largest size is assumed.

        ``client`` is whose share of the limit counts. Raises BodyTooLarge, Overloaded or TooManyRequests.
        """
        size = self.max_body_bytes if body_bytes is None else body_bytes
        if size > self.max_body_bytes:
            raise BodyTooLarge.over(self.max_body_bytes)
        return self.admission.admit(body_weight(size) + extra_units, client, deadline)

    async def inspect(
        self, served: Served, images: Sequence[bytes], permit: Permit, deadline: float, extra_units: int = 0
    ) -> list[Photo]:
        """Read the images' headers and widen ``permit`` to the images' sizes. Raises Overloaded or TooManyRequests."""
        photos: list[Photo] = []
        for data in images:
            if photos:
                await asyncio.sleep(0)  # let other requests run: a hostile header takes 20 ms
            photos.append(Photo(data, _header(served, data)))
        units = sum(image_weight(photo.header.pixels) for photo in photos if isinstance(photo.header, Header))
        permit.widen(units + extra_units)
        self.admission.check_time(units, deadline)
        return photos

    async def infer(
        self,
        served: Served,
        photos: Sequence[Photo],
        deadline: float,
        times: StageTimes,
        classes: Sequence[int] = (),
        *,
        priority: Priority = "normal",
        preview: Preview | None = None,
    ) -> list[Outcome]:
        """One outcome per photo, in order; the first maps of each are of ``classes``.

        ``preview``: for a single photo, receives a small copy of it.
        """
        work = [self._infer(served, photo, deadline, times, classes, priority, preview) for photo in photos]
        return [await work[0]] if len(work) == 1 else await asyncio.gather(*work)

    async def _infer(
        self,
        served: Served,
        photo: Photo,
        deadline: float,
        times: StageTimes,
        classes: Sequence[int],
        priority: Priority,
        preview: Preview | None,
    ) -> Outcome:
        data, header = photo
        if isinstance(header, ServiceError):
            return self._count(served, "unknown", header)
        source = served.source(data, header, preview)
        try:
            with self.admission.in_engine(image_weight(header.pixels)):
                result = await served.engine.infer(served.reference, source, deadline, classes, priority)
        except ServiceError as error:
            return self._count(served, header.format, error)
        times.add("decode", result.decode_s)
        times.add("queue", result.queue_s)
        times.add("infer", result.infer_s)
        return self._count(served, header.format, Answer(header, result))

    def _count(self, served: Served, image_format: str, outcome: Outcome) -> Outcome:
        word = "ok"
        if isinstance(outcome, ServiceError):
            word = outcome.reason
            self._metrics.rejected.labels(word).inc()
        self._metrics.model(served.reference).image(image_format, word).inc()
        return outcome


def _header(served: Served, data: bytes) -> Header | ServiceError:
    try:
        return served.inspect(data)
    except ServiceError as error:
        return error
