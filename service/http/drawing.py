"""``POST /explain`` as ``image/png``: the map of one class over the photo, reduced to at most 1,024 pixels per side.

admitted ─► engine: decode and reduce, batch, infer ─► draw, on a thread ─► PNG
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import DeadlineExceeded, ServiceError
from service.http import overlay, problems
from service.http.encode import PNG, Warnings
from service.http.parameters import MapParameters, Parameters
from service.http.request import Admitted, Exchange, cancelled_by_disconnect
from service.image import crop_box
from service.model.outputs import explain
from service.serving.intake import DRAWING_UNITS, Served, StageTimes


class Drawings:
    """Used from the event loop. Drawings are made one at a time, so that they use one core at most."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drawings")

    async def answer(
        self, scope: Scope, receive: Receive, send: Send, make_plan: Callable[[Served, Parameters], MapParameters]
    ) -> None:
        """Raises ServiceError or ClientGone before anything is sent."""
        times = StageTimes()
        admitted = self._exchange.admitted(
            scope, receive, times, make_plan, vectors=True, max_images=1, extra_units=DRAWING_UNITS
        )
        async with admitted as request:
            async with cancelled_by_disconnect(receive):
                response = await self._draw(request, times)
            await response(scope, receive, send)

    async def _draw(self, request: Admitted[MapParameters], times: StageTimes) -> Response:
        served, (classes, _, _, opacity) = request.served, request.plan
        (outcome,) = await self._exchange.intake.infer(
            served, request.photos, request.deadline, times, classes, priority=request.priority, keep_photo=True
        )
        if isinstance(outcome, ServiceError):
            return problems.response(outcome)
        (class_map,) = explain(outcome.result.output, served.labels, classes, 1, served.artifact.manifest.head)
        photo = outcome.findings.photo
        draw = partial(overlay.draw, photo, crop_box(photo.size, served.transform), class_map, opacity=opacity)
        started = time.monotonic()
        try:
            async with asyncio.timeout(request.deadline - started):
                png = await asyncio.get_running_loop().run_in_executor(self._thread, draw)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the class map was drawn") from None
        times.add(encode=time.monotonic() - started)
        headers = Warnings(request.parameters, [outcome]).headers | {"Server-Timing": times.observe(served.metrics)}
        return _FetchedResponse(png, headers=headers, media_type=PNG)


class _FetchedResponse(Response):
    """Counts as sent, so that the permit is released, only when all but one write buffer has been received."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await send({"type": "http.response.body"})  # the server waits for its write buffer before each message
