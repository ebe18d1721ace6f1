"""``POST /explain`` as ``image/png``: the photo at its own size with the map of one class over it.

admitted ─► its turn ─► engine: decode (kept at full size), batch, infer ─► draw, on a thread ─► PNG, piece by piece

Pixels at full size and PNGs are what is large here. One photo at a time is kept decoded; a PNG counts as a body does
against the limit on work in flight until it has been fetched, and whoever fetches it too slowly is let go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from service import overlay
from service.admission import body_weight
from service.errors import DeadlineExceeded, Overloaded, ServiceError
from service.http import problems
from service.http.encode import PNG
from service.http.inference import Admitted, Inference, cancelled_by_disconnect
from service.http.timing import StageTimes
from service.image import Header, Limits, Prepared, Transform, crop_box, squared, upright
from service.metrics import Metrics
from service.postprocess import ClassMap, explain

logger = logging.getLogger(__name__)

#: More would wait for seconds, and each holds its encoded photo meanwhile.
_MOST_WAITING = 8
_PIECE_BYTES = 64 * 1024
#: Who fetches more slowly than this, after the time that any request has, is let go.
_LEAST_BYTES_PER_S = 1_000_000
#: Of the limit on work in flight, what pictures that are still being fetched may hold together.
_MOST_UNFETCHED = 0.25


class Pictures:
    """Draws and sends them, one at a time. Used from the event loop."""

    def __init__(
        self, inference: Inference, metrics: Metrics, labels: Sequence[str], transform: Transform, limits: Limits
    ) -> None:
        self._inference = inference
        self._metrics = metrics
        self._labels = labels
        self._transform = transform
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0
        self._unfetched = 0  # units of the limit
        self._drawing: asyncio.Future[bytes] | None = None

    async def answer(
        self, scope: Scope, receive: Receive, send: Send, client: str, *, classes: Sequence[int], opacity: float
    ) -> None:
        """Raises ServiceError before anything is sent, ClientGone when nobody waits any more."""
        times = StageTimes()
        async with self._inference.admitted(Headers(scope=scope), receive, times, client, max_images=1) as request:
            async with cancelled_by_disconnect(receive):
                png = await self._draw(request, times, classes, opacity)
            if isinstance(png, ServiceError):
                await problems.response(png)(scope, receive, send)
                return
            units = body_weight(len(request.photos[0].data) + len(png))
            request.permit.widen(units)
            times.observe(self._metrics)
            self._unfetched += units
            try:
                await self._send(send, png, times.header())
            finally:
                self._unfetched -= units

    async def _draw(
        self, request: Admitted, times: StageTimes, classes: Sequence[int], opacity: float
    ) -> bytes | ServiceError:
        """The picture, or what is wrong with the photo, counted already."""
        try:
            async with asyncio.timeout(request.deadline - time.monotonic()), self._its_turn():
                kept = _Kept(self._limits, self._transform)
                outcome = await self._inference.infer(request.photos[0], request.deadline, times, classes, kept.decode)
                if isinstance(outcome, ServiceError):
                    return outcome
                (shown,) = explain(outcome.output, self._labels, classes, 1)
                started = time.monotonic()
                draw = partial(kept.draw, shown, opacity)
                self._drawing = asyncio.get_running_loop().run_in_executor(self._thread, draw)
                png = await asyncio.shield(self._drawing)
                times.add("encode", time.monotonic() - started)
                return png
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the picture was drawn") from None

    @asynccontextmanager
    async def _its_turn(self) -> AsyncIterator[None]:
        if self._waiting >= _MOST_WAITING:
            raise Overloaded("too many pictures are waiting to be drawn")
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            if self._unfetched > _MOST_UNFETCHED * self._inference.max_in_flight:
                raise Overloaded("too many pictures are being fetched")
            yield
        finally:
            # Nothing stops the thread, and the photo is there until it is done.
            if self._drawing is None or self._drawing.done():
                self._turn.release()
            else:
                self._drawing.add_done_callback(self._left_alone)

    def _left_alone(self, drawing: asyncio.Future[bytes]) -> None:
        drawing.exception()  # nobody else asks for it
        self._turn.release()

    async def _send(self, send: Send, png: bytes, timing: str) -> None:
        headers = [
            (b"content-type", PNG.encode()),
            (b"content-length", str(len(png)).encode()),
            (b"server-timing", timing.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async with asyncio.timeout(self._inference.timeout_s + len(png) / _LEAST_BYTES_PER_S):
                for at in range(0, len(png), _PIECE_BYTES):
                    more = at + _PIECE_BYTES < len(png)
                    await send({"type": "http.response.body", "body": png[at : at + _PIECE_BYTES], "more_body": more})
        except TimeoutError:
            # Without the answer's end the server closes the connection.
            logger.info("a client that fetches its picture too slowly was let go")


class _Kept:
    """One photo at its own size, from its decoding to its picture."""

    def __init__(self, limits: Limits, transform: Transform) -> None:
        self._limits = limits
        self._transform = transform

    def decode(self, data: bytes, header: Header) -> Prepared:
        self._photo = upright(data, header, self._limits)
        return squared(self._photo, header, self._transform)

    def draw(self, shown: ClassMap, opacity: float) -> bytes:
        crop = crop_box(self._photo.size, self._transform)
        return overlay.draw(self._photo, crop, shown, opacity=opacity)
