"""From the body of one request to the engine's answers: permit, read, inspect, infer.

    permit ─► read body ─► inspect headers, widen permit ─► engine: decode, batch, infer ─► outcomes

A request that cannot be answered before its deadline is refused at the door, before its body is read, and once more
before its images are handed over: 503 at once tells a client more than 504 in the end. One image's failure is that
image's outcome; it never raises here and never touches its neighbours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import Receive

from service.admission import BYTES_PER_UNIT, Admission, body_weight, image_weight
from service.engine import EngineClient, InferResult
from service.errors import BadImage, DeadlineExceeded, InvalidParameter, Overloaded, ServiceError
from service.http.body import ClientGone, declared_length, read_images, too_large
from service.http.timing import StageTimes
from service.metrics import Metrics
from service.pace import Pace
from service.preprocess import PREVIEW_SIDE, Header, Limits, Mode, Preview, Transform, inspect, prepare

TIMEOUT_HEADER = "x-request-timeout-ms"

#: What a drawing weighs beside its photo. Each pixel takes four bytes in the preview, which the allocator may keep
#: when it is gone, and little more than three in the PNG.
_DRAWING_UNITS = 8 * PREVIEW_SIDE**2 // BYTES_PER_UNIT

#: What became of one image.
Outcome = InferResult | ServiceError


class Photo(NamedTuple):
    """One image of a request, and what its header says."""

    data: bytes
    header: Header | ServiceError


class Admitted(NamedTuple):
    """A request that has its place."""

    photos: list[Photo]
    deadline: float


class Inference:
    """What the inference endpoints share. One an app; used from the event loop."""

    def __init__(
        self,
        engine: EngineClient,
        metrics: Metrics,
        *,
        transform: Transform,
        mode: Mode,
        limits: Limits,
        max_in_flight: int,
        max_client_share: float,
        max_body_bytes: int,
        max_images: int,
        timeout_s: float,
        worked: Callable[[], object],
    ) -> None:
        self.engine = engine
        #: Set on shutdown: readiness is off and answers close their connections. Work that still arrives is done all
        #: the same: refusing what can be answered helps nobody (ADR 6).
        self.draining = False
        self._metrics = metrics
        self._transform = transform
        self._mode = mode
        self._limits = limits
        self._pace = Pace()
        self._admission = Admission(max_in_flight, share=max_client_share, retry_after=self._pace.retry_after)
        self._max_body_bytes = max_body_bytes
        self._max_images = max_images
        self._timeout_s = timeout_s
        self._worked = worked
        metrics.watch(metrics.in_flight, lambda: self._admission.in_flight)
        metrics.in_flight_limit.set(max_in_flight)

    def drain(self) -> None:
        """Begin the shutdown: see ``draining``."""
        self.draining = True
        self._metrics.watch(self._metrics.ready, lambda: 0.0)

    async def run(
        self, headers: Headers, receive: Receive, times: StageTimes, client: str = "", classes: Sequence[int] = ()
    ) -> list[Outcome]:
        """One outcome an image, in the order sent. ``client`` is who has a share in the limit; the first maps of each
        outcome are of ``classes``.

        Raises ServiceError for what concerns the request as a whole, ClientGone when nobody waits any more.
        """
        async with self.admitted(headers, receive, times, client) as request, cancelled_by_disconnect(receive):
            work = [self.infer(photo, request.deadline, times, classes) for photo in request.photos]
            return [await work[0]] if len(work) == 1 else await asyncio.gather(*work)

    @asynccontextmanager
    async def admitted(
        self, headers: Headers, receive: Receive, times: StageTimes, client: str = "", drawing: bool = False
    ) -> AsyncIterator[Admitted]:
        """The request, read and looked at, for as long as it holds its permit. Raises as ``run`` does.

        ``drawing``: it has one photo, and a class map will be drawn over it.
        """
        max_images, drawing_units = (1, _DRAWING_UNITS) if drawing else (self._max_images, 0)
        started = time.monotonic()
        deadline = started + self._timeout(headers)
        if not self._pace.known:
            await self._learn_pace()
        with self._admission.admit(body_weight(self._expected_bytes(headers)) + drawing_units, client) as permit:
            self._refuse_the_hopeless(1, deadline - started)
            try:
                images = await self._read(headers, receive, deadline, max_images)
            except (DeadlineExceeded, ClientGone):
                # No answer has stage times then; who was slow should be seen all the same.
                self._metrics.stages["read"].observe(time.monotonic() - started)
                raise
            arrived = time.monotonic()
            times.add("read", arrived - started)
            photos: list[Photo] = []
            for data in images:
                if photos:
                    await asyncio.sleep(0)  # a header made for it costs 20 ms: others get their turn in between
                photos.append(Photo(data, self._inspect(data)))
            units = sum(image_weight(photo.header.pixels) for photo in photos if isinstance(photo.header, Header))
            permit.widen(units + drawing_units)
            self._refuse_the_hopeless(units, deadline - arrived)
            yield Admitted(photos, deadline)
        self._worked()

    def _timeout(self, headers: Headers) -> float:
        """Seconds this request may take: the client's wish, never more than the service's own limit."""
        wish = headers.get(TIMEOUT_HEADER)
        if wish is None:
            return self._timeout_s
        if not (wish.isascii() and wish.isdigit()) or len(wish) > 9 or int(wish) == 0:
            raise InvalidParameter("X-Request-Timeout-Ms: a positive whole number of milliseconds is wanted")
        return min(int(wish) / 1e3, self._timeout_s)

    async def _learn_pace(self) -> None:
        info = (await self.engine.ready()).info
        if info is not None:
            self._pace.seed(info.batch_cost)

    def _refuse_the_hopeless(self, units: int, remaining: float) -> None:
        """Raises Overloaded if what waits already would take longer than the ``remaining`` seconds."""
        if self._pace.hopeless(units, remaining):
            raise Overloaded("the queue is too long for this request's deadline", retry_after=self._pace.retry_after())

    def _expected_bytes(self, headers: Headers) -> int:
        """The body's declared size, the most it can be where it is not declared; BodyTooLarge before anything else."""
        declared = declared_length(headers, default=self._max_body_bytes)
        if declared > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        return declared

    async def _read(self, headers: Headers, receive: Receive, deadline: float, max_images: int) -> list[bytes]:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await read_images(headers, receive, max_bytes=self._max_body_bytes, max_images=max_images)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the body had arrived") from None

    def _inspect(self, data: bytes) -> Header | ServiceError:
        if not data:
            return BadImage("the image is empty")
        try:
            return inspect(data, self._limits)
        except ServiceError as error:
            return error

    async def infer(
        self,
        photo: Photo,
        deadline: float,
        times: StageTimes,
        classes: Sequence[int] = (),
        preview: Preview | None = None,
    ) -> Outcome:
        """``photo`` through the engine; a small copy of it is left in ``preview``."""
        data, header = photo
        if isinstance(header, ServiceError):
            return self._count("unknown", header)
        call = partial(prepare, data, header, self._transform, self._mode, self._limits, preview)
        units = image_weight(header.pixels)
        found, handed_over = self._pace.enter(units), time.monotonic()
        try:
            result = await self.engine.infer(call, deadline, header.pixels, classes)
        except ServiceError as error:
            if isinstance(error, DeadlineExceeded):
                self._pace.observe_late(found, time.monotonic() - handed_over)
            return self._count(header.format, error)
        finally:
            self._pace.leave(units)
        self._pace.observe(found, time.monotonic() - handed_over)
        times.add("decode", result.decode_s)
        times.add("queue", result.queue_s)
        times.add("infer", result.infer_s)
        return self._count(header.format, result)

    def _count(self, image_format: str, outcome: Outcome) -> Outcome:
        word = "ok"
        if isinstance(outcome, ServiceError):
            word = outcome.reason
            self._metrics.rejected.labels(word).inc()
        self._metrics.images.labels(image_format, word).inc()
        return outcome


@asynccontextmanager
async def cancelled_by_disconnect(receive: Receive) -> AsyncIterator[None]:
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
