"""From the images of one request to the engine's answers: permit, read, decode, infer.

    permit ─► read body ─► inspect headers, widen permit ─► decoders ─► engine.infer ─► outcomes

One image's failure is that image's outcome; it never raises here and never touches its neighbours.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import Receive

from service.admission import Admission, body_weight, image_weight
from service.engine import EngineClient, InferResult
from service.errors import BadImage, DeadlineExceeded, InvalidParameter, ServiceError
from service.http.body import ClientGone, declared_length, read_images
from service.http.timing import StageTimes
from service.metrics import Metrics
from service.preprocess import Header, Limits, Mode, Prepared, Transform, inspect, prepare

logger = logging.getLogger(__name__)

TIMEOUT_HEADER = "x-request-timeout-ms"


class Answer(NamedTuple):
    """One inferred image."""

    result: InferResult
    warnings: tuple[str, ...]


Outcome = Answer | ServiceError


class Decoded(NamedTuple):
    prepared: Prepared
    started: float
    finished: float


class Inference:
    """What both endpoints share. One an app; used from the event loop."""

    def __init__(
        self,
        engine: EngineClient,
        metrics: Metrics,
        *,
        transform: Transform,
        mode: Mode,
        limits: Limits,
        decoders: Executor,
        max_in_flight: int,
        max_body_bytes: int,
        max_images: int,
        timeout_s: float,
    ) -> None:
        self.engine = engine
        #: Set on shutdown: readiness is off and answers close their connections. Work that still arrives is done all
        #: the same: refusing what can be answered helps nobody (ADR 0006).
        self.draining = False
        self._metrics = metrics
        self._transform = transform
        self._mode = mode
        self._limits = limits
        self._decoders = decoders
        self._admission = Admission(max_in_flight)
        self._max_body_bytes = max_body_bytes
        self._max_images = max_images
        self._timeout_s = timeout_s
        metrics.watch(metrics.in_flight, lambda: self._admission.in_flight)

    async def run(self, headers: Headers, receive: Receive, times: StageTimes) -> list[Outcome]:
        """One outcome an image, in the order sent.

        Raises ServiceError for what concerns the request as a whole, ClientGone when nobody waits any more.
        """
        started = time.monotonic()
        deadline = started + self._timeout(headers)
        with self._admission.admit(body_weight(self._expected_bytes(headers))) as permit:
            images = await self._read(headers, receive, deadline)
            times.add("read", time.monotonic() - started)
            inspected = [self._inspect(data) for data in images]
            permit.widen(sum(image_weight(seen.pixels) for seen in inspected if isinstance(seen, Header)))
            async with _cancelled_by_disconnect(receive):
                work = [self._answer(*pair, deadline, times) for pair in zip(images, inspected, strict=True)]
                return [await work[0]] if len(work) == 1 else await asyncio.gather(*work)

    def _timeout(self, headers: Headers) -> float:
        """Seconds this request may take: the client's wish, never more than the service's own limit."""
        wish = headers.get(TIMEOUT_HEADER)
        if wish is None:
            return self._timeout_s
        if not (wish.isascii() and wish.isdigit()) or len(wish) > 9 or int(wish) == 0:
            raise InvalidParameter("X-Request-Timeout-Ms: a positive whole number of milliseconds is wanted")
        return min(int(wish) / 1e3, self._timeout_s)

    def _expected_bytes(self, headers: Headers) -> int:
        """The body's declared size; the most it can be where it is not declared."""
        return min(declared_length(headers, default=self._max_body_bytes), self._max_body_bytes)

    async def _read(self, headers: Headers, receive: Receive, deadline: float) -> list[bytes]:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await read_images(headers, receive, max_bytes=self._max_body_bytes, max_images=self._max_images)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the body had arrived") from None

    def _inspect(self, data: bytes) -> Header | ServiceError:
        if not data:
            return BadImage("the image is empty")
        try:
            return inspect(data, self._limits)
        except ServiceError as error:
            return error

    async def _answer(self, data: bytes, header: Header | ServiceError, deadline: float, times: StageTimes) -> Outcome:
        outcome: Outcome
        try:
            if isinstance(header, ServiceError):
                raise header
            outcome = await self._decode_and_infer(data, header, deadline, times)
        except ServiceError as error:
            outcome = error
        except Exception:
            logger.exception("an image could not be processed")
            outcome = ServiceError("the image could not be processed")
        image_format = header.format if isinstance(header, Header) else "unknown"
        self._metrics.images.labels(image_format, outcome.reason if isinstance(outcome, ServiceError) else "ok").inc()
        if isinstance(outcome, ServiceError):
            self._metrics.rejected.labels(outcome.reason).inc()
        return outcome

    async def _decode_and_infer(self, data: bytes, header: Header, deadline: float, times: StageTimes) -> Answer:
        submitted = time.monotonic()
        loop = asyncio.get_running_loop()
        decoded = await loop.run_in_executor(self._decoders, self._decode, data, header, deadline)
        times.add("decode", decoded.finished - decoded.started)
        result = await self.engine.infer(decoded.prepared.image, deadline)
        times.add("queue", decoded.started - submitted + result.queue_s)
        times.add("infer", result.infer_s)
        return Answer(result, decoded.prepared.warnings)

    def _decode(self, data: bytes, header: Header, deadline: float) -> Decoded:
        """On a decoder's thread."""
        started = time.monotonic()
        if started >= deadline:
            raise DeadlineExceeded("the deadline passed before the image was decoded")
        prepared = prepare(data, header, self._transform, self._mode, self._limits)
        return Decoded(prepared, started, time.monotonic())


@asynccontextmanager
async def _cancelled_by_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel the enclosed work when the client goes away, and raise ClientGone in its place."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise ClientGone from None
    finally:
        watcher.cancel()
