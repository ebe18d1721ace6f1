"""Middleware that all requests pass, as pure ASGI: Starlette's base class for middleware would hide disconnects.

Outermost ``Observe`` (request id, security headers, last-resort 500, metrics, access log), then ``HeaderLimit``, then
``ApiKeys``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.errors import Draining, HeadersTooLarge, ServiceError, Unauthorized
from service.http import problems
from service.http.routes import ENTRY, RouteTable
from service.metrics import Metrics
from service.serving.lifecycle import Lifecycle

access = logging.getLogger("service.access")
logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 16 * 1024

#: Added to every answer that does not set them itself. A browser that is made to open an answer as a page runs and
#: loads nothing, and results about a photo stay out of caches.
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)

#: Key in the scope under which ``ApiKeys`` stores the digest of the request's API key.
KEY_OWNER = "service.key_owner"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_LOGGED_PATH_BYTES = 256


@dataclass(frozen=True, slots=True)
class Observe:
    """Gives the request an id, counts and times it, logs it, and turns a bug into a clean 500."""

    app: ASGIApp
    metrics: Metrics
    routes: RouteTable
    lifecycle: Lifecycle
    access_log: bool
    unlogged: Collection[str]  # paths whose successes the access log leaves out
    around: Callable[[ASGIApp], ASGIApp]  # what ``app`` is wrapped in, for the answers given here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        label = self.routes.enter(scope).label
        request_id = _request_id(Headers(scope=scope))
        logs.request_id.set(request_id)  # each request is a task with its own context
        status = 0
        complete = False

        async def send_observed(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                present = [name for name, _ in message["headers"]]
                headers = [header for header in SECURITY_HEADERS if header[0] not in present]
                headers.append((b"x-request-id", request_id.encode()))
                if self.lifecycle.draining or self.lifecycle.replaced:
                    headers.append((b"connection", b"close"))  # the next request goes to another process or replica
                message = {**message, "headers": [*message["headers"], *headers]}
            else:
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, send_observed)
        except asyncio.CancelledError:
            if status or not self.lifecycle.draining:
                raise
            # The time to drain is over: nothing else cancels a request.
            error: ServiceError = Draining("the service shut down before this request was finished")
            await self.around(problems.refuse(error, self.metrics))(scope, receive, send_observed)
        except Exception:
            logger.exception("a request failed unexpectedly", extra={"fields": {"request_id": request_id}})
            if not status:
                await self.around(problems.refuse(problems.UNEXPECTED, self.metrics))(scope, receive, send_observed)
            elif not complete:
                raise  # part of the answer has been sent; only a closed connection tells the client
        finally:
            self._record(scope, label, status, time.monotonic() - started, request_id)

    def _record(self, scope: Scope, label: str, status: int, seconds: float, request_id: str) -> None:
        self.metrics.requests.labels(label, str(status)).inc()
        self.metrics.request_duration.labels(label).observe(seconds)
        unlogged = status < 400 and scope["path"] in self.unlogged
        if self.access_log and not unlogged and access.isEnabledFor(logging.INFO):
            fields: dict[str, Any] = {
                "method": scope["method"],
                # Not decoded: line breaks in it could forge log records.
                "path": scope["raw_path"][:_LOGGED_PATH_BYTES].decode("ascii", "backslashreplace"),
                "status": status,
                "ms": round(seconds * 1e3, 2),
                "request_id": request_id,
                "client": scope["client"][0] if scope.get("client") else "-",
            }
            access.info("request", extra={"fields": fields})


@dataclass(frozen=True, slots=True)
class HeaderLimit:
    """431 for header blocks over 16 KiB, including path and query, whatever the HTTP parser allows."""

    app: ASGIApp
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
            if size + len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEADER_BYTES:
                error = HeadersTooLarge(f"the request's headers are larger than {MAX_HEADER_BYTES} bytes")
                await problems.refuse(error, self.metrics)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class ApiKeys:
    """401 unless the request brings one of ``keys`` or its route needs none.

    ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``. All digests are compared, each in constant time, so that the
    duration reveals nothing about any key.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[str], metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self.replace(keys)

    def replace(self, keys: Sequence[str]) -> None:
        """Accept ``keys`` from now on instead of those before."""
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope[ENTRY].keyless:
            offered = _digest(_key(Headers(scope=scope)))
            matches = [hmac.compare_digest(offered, digest) for digest in self._digests]
            if not any(matches):
                error = Unauthorized("a valid API key is required")
                await problems.refuse(error, self._metrics)(scope, receive, send)
                return
            scope[KEY_OWNER] = offered.hex()
        await self._app(scope, receive, send)


def _key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _request_id(headers: Headers) -> str:
    """The client's own id if it is harmless in a header and a log line, else a new one (unique, not secret)."""
    offered = headers.get("x-request-id")
    return offered if offered is not None and _REQUEST_ID.fullmatch(offered) else f"{random.getrandbits(128):032x}"
