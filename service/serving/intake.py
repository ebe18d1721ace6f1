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
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from service.engine.client import Decode, EngineClient, InferResult, Priority
from service.errors import BodyTooLarge, NotReady, OtherEmbedding, ServiceError
from service.image import PREVIEW_SIDE, Damaged, Findings, Header, Limits, Mode, Transform, inspect, preprocess
from service.metrics import STAGES, Metrics, ModelMetrics
from service.model.artifact import Artifact
from service.serving.admission import BYTES_PER_UNIT, Admission, Permit, body_weight, image_weight

#: Additional weight of a drawing. Each pixel takes four bytes in the preview, which the allocator may keep afterwards,
#: and little more than three in the PNG.
DRAWING_UNITS = 8 * PREVIEW_SIDE**2 // BYTES_PER_UNIT


@dataclass(frozen=True, slots=True)
class Served:
    """One version that is being served: an artifact, the engine that runs it, its preprocessing and its metrics."""

    artifact: Artifact
    reference: str  # name/version
    engine: EngineClient
    metrics: ModelMetrics
    transform: Transform
    mode: Mode
    limits: Limits
    damaged: Damaged
    precision: str
    #: One entry for each request that holds this version.
    leases: list[object] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.artifact.manifest.name

    @property
    def version(self) -> str:
        return self.artifact.manifest.version

    @property
    def labels(self) -> Sequence[str]:
        return self.artifact.labels

    @property
    def num_classes(self) -> int:
        return self.artifact.network.num_classes

    def embedding_id(self, *, unit_length: bool, requested: Sequence[str] = ()) -> str:
        """Which vectors are made here; OtherEmbedding if one of the ids ``requested`` is another.

        NotReady if that depends on the runtime, which is not known yet.
        """
        runtime = ""
        if self.precision != "fp32":
            if (info := self.engine.info) is None:
                raise NotReady("the model is still loading")
            runtime = info.name
        ours = self.artifact.embedding_id(self.precision, runtime, self.mode, unit_length=unit_length)
        for other in requested:
            if other != ours:
                raise OtherEmbedding(
                    f"the vectors here are of {ours}, the request asks for those of {other}",
                    embedding_id=ours,
                    requested=other,
                )
        return ours

    def source(self, data: bytes, header: Header, findings: Findings) -> Decode:
        """The engine's source for an image whose ``header`` is known; once it is decoded, ``findings`` are complete."""
        call = partial(preprocess, data, header, self.transform, self.mode, self.limits, self.damaged, findings)
        return Decode(call, header.pixels)


class StageTimes(dict[str, float]):
    """Seconds of one request by stage. For several images, a stage's time is that of the slowest image."""

    def add(self, **seconds: float) -> None:
        """Record one image's time in each stage given."""
        for stage, value in seconds.items():
            self[stage] = max(value, self.get(stage, 0.0))

    def observe(self, metrics: ModelMetrics) -> str:
        """Feed the histograms; returns the value of ``Server-Timing``: ``read;dur=0.1, decode;dur=1.8, …`` in
        milliseconds, in the order of stages, without those not reached."""
        for stage, seconds in self.items():
            metrics.stages[stage].observe(seconds)
        return ", ".join(f"{stage};dur={self[stage] * 1e3:.2f}" for stage in STAGES if stage in self)


class Photo(NamedTuple):
    """One image of a request."""

    data: bytes
    header: Header | ServiceError
    units: int  # its weight; 0 if it has no header


class Answer(NamedTuple):
    """What is known about an image, and the engine's result."""

    header: Header
    findings: Findings
    result: InferResult

    @property
    def warnings(self) -> Sequence[str]:
        """Messages for the sender."""
        return (*self.header.warnings, *self.findings.warnings)


#: The answer or the error of one image.
Outcome = Answer | ServiceError


class Intake:
    """Shared by all requests of a process, whatever their model and transport. Used from one event loop."""

    def __init__(self, admission: Admission, metrics: Metrics, *, max_body_bytes: int, timeout_s: float) -> None:
        self.admission = admission
        self.max_body_bytes = max_body_bytes
        self._rejected = metrics.rejected
        self._timeout_s = timeout_s
        metrics.watch(metrics.in_flight, lambda: admission.in_flight)
        metrics.in_flight_limit.set(admission.limit)

    def deadline(self, timeout_ms: int | None) -> float:
        """The deadline of a request that arrives now, in time.monotonic() seconds.

        ``timeout_ms`` is the client's own limit, which can only be shorter than the service's.
        """
        timeout_s = self._timeout_s if timeout_ms is None else min(timeout_ms / 1e3, self._timeout_s)
        return time.monotonic() + timeout_s

    def admit(
        self,
        body_bytes: int | None,
        deadline: float,
        client: str = "",
        extra_units: int = 0,
        priority: Priority = "normal",
    ) -> Permit:
        """A permit for a request with a body of ``body_bytes``; None: unknown, so the largest size is assumed.

        ``client`` is whose share of the limit counts. Raises BodyTooLarge, Overloaded or TooManyRequests.
        """
        size = self.max_body_bytes if body_bytes is None else body_bytes
        if size > self.max_body_bytes:
            raise BodyTooLarge.over(self.max_body_bytes)
        return self.admission.admit(body_weight(size) + extra_units, client, deadline, low=priority == "low")

    async def inspect(
        self, served: Served, images: Sequence[bytes], permit: Permit, deadline: float, extra_units: int = 0
    ) -> list[Photo]:
        """Read the images' headers and widen ``permit`` to the images' sizes. Raises Overloaded or TooManyRequests."""
        photos: list[Photo] = []
        for data in images:
            if photos:
                await asyncio.sleep(0)  # let other requests run: a hostile header takes 20 ms
            try:
                header = inspect(data, served.limits)
                photos.append(Photo(data, header, image_weight(header.pixels)))
            except ServiceError as error:
                photos.append(Photo(data, error, 0))
        units = sum(photo.units for photo in photos)
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
        keep_photo: bool = False,
    ) -> list[Outcome]:
        """One outcome per photo, in order; the first maps of each are of ``classes``.

        ``keep_photo``: the findings of each answer have a small copy of its photo.
        """

        async def outcome(photo: Photo) -> Outcome:
            data, header, units = photo
            if isinstance(header, ServiceError):
                return self._count(served, "unknown", header)
            findings = Findings(keep_photo=keep_photo)
            source = served.source(data, header, findings)
            try:
                with self.admission.in_engine(units):
                    result = await served.engine.infer(served.reference, source, deadline, classes, priority)
            except ServiceError as error:
                return self._count(served, header.format, error)
            times.add(decode=result.decode_s, queue=result.queue_s, infer=result.infer_s)
            return self._count(served, header.format, Answer(header, findings, result))

        return [await outcome(photos[0])] if len(photos) == 1 else await asyncio.gather(*map(outcome, photos))

    def _count(self, served: Served, image_format: str, outcome: Outcome) -> Outcome:
        word = "ok"
        if isinstance(outcome, ServiceError):
            word = outcome.reason
            self._rejected.labels(word).inc()
        served.metrics.images(image_format, word).inc()
        return outcome
