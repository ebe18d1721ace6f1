"""One inference request over HTTP: feeds ``serving.intake`` from an ASGI request.

head ─► admit ─► read the body ─► inspect ─► (the endpoint infers and encodes) ─► the permit is released
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from service.errors import DeadlineExceeded, InvalidParameter
from service.http.body import ClientGone, declared_length, read_images
from service.http.middleware import KEY_OWNER
from service.metrics import Metrics
from service.serving.intake import Intake, Photo, StageTimes
from service.serving.served import Served

TIMEOUT_HEADER = "x-request-timeout-ms"


class Exchange(NamedTuple):
    """Shared by the inference endpoints of one model."""

    served: Served
    intake: Intake
    metrics: Metrics
    max_images: int

    @asynccontextmanager
    async def admitted(
        self, scope: Scope, receive: Receive, times: StageTimes, *, max_images: int | None = None, extra_units: int = 0
    ) -> AsyncIterator[tuple[list[Photo], float]]:
        """The request's photos and its deadline; the permit is held while the block runs.

        Raises ServiceError if the whole request fails, ClientGone if the client has disconnected.
        """
        headers, started = Headers(scope=scope), time.monotonic()
        deadline = self.intake.deadline(_timeout_ms(headers))
        with self.intake.admit(declared_length(headers), deadline, _client(scope), extra_units) as permit:
            try:
                images = await self._read(headers, receive, deadline, max_images or self.max_images)
            except (DeadlineExceeded, ClientGone):
                # No answer reports this time, but the histogram should show slow clients.
                self.metrics.model(self.served.reference).stages["read"].observe(time.monotonic() - started)
                raise
            times.add("read", time.monotonic() - started)
            yield await self.intake.inspect(self.served, images, permit, deadline, extra_units), deadline

    async def _read(self, headers: Headers, receive: Receive, deadline: float, max_images: int) -> list[bytes]:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await read_images(headers, receive, max_bytes=self.intake.max_body_bytes, max_images=max_images)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the body had arrived") from None


@asynccontextmanager
async def cancelled_by_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel the enclosed work when the client disconnects, and raise ClientGone instead."""
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


def _timeout_ms(headers: Headers) -> int | None:
    """The client's own time limit, in milliseconds."""
    value = headers.get(TIMEOUT_HEADER)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 9 or int(value) == 0:
        raise InvalidParameter("X-Request-Timeout-Ms must be a positive whole number of milliseconds")
    return int(value)


def _client(scope: Scope) -> str:
    """Whose share of the limit counts: the owner of the API key, else the address."""
    owner: str | None = scope.get(KEY_OWNER)
    return owner or (scope["client"][0] if scope.get("client") else "")
