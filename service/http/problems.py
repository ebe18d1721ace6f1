"""Errors as ``application/problem+json`` (RFC 9457).

``ServiceError`` carries its own status; Starlette's HTTPException (404) is translated; any other exception is a
500 without details.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from service.errors import Draining, NotReady, OtherEmbedding, Overloaded, ServiceError, Unauthorized, UnsupportedCoding
from service.metrics import Metrics

MEDIA_TYPE = "application/problem+json"

#: The answer when a request fails because of a bug.
UNEXPECTED = ServiceError("the service failed on this request")


def problem(error: ServiceError) -> dict[str, Any]:
    """Status, title and detail, which are also the ``error`` of one image among several."""
    return {"status": error.status, "title": error.title, "detail": error.detail}


def response(error: ServiceError, **members: Any) -> Response:
    """The response to a failed request; ``members`` are extension members of the problem."""
    headers: dict[str, str] = {}
    if isinstance(error, OtherEmbedding):
        members = {**members, **error.ids}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, (Draining, NotReady)):
        headers["Retry-After"] = "1"
    elif isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, UnsupportedCoding):
        headers["Accept-Encoding"] = "gzip, deflate"  # RFC 9110, section 15.5.16
    return _document({**problem(error), **members}, headers)


def _document(members: dict[str, Any], headers: dict[str, str]) -> Response:
    body = orjson.dumps({"type": "about:blank", **members})
    return Response(body, status_code=members["status"], media_type=MEDIA_TYPE, headers=headers)


def method_not_allowed(allow: dict[str, str]) -> Response:
    """``allow``: the header that names the methods of the path."""
    return _http_problem(405, "this path does not support this method; see the Allow header", allow)


def _http_problem(status: int, detail: str | None, headers: dict[str, str]) -> Response:
    title = HTTPStatus(status).phrase
    return _document({"status": status, "title": title, "detail": detail or title.lower()}, headers)


def refuse(error: ServiceError, metrics: Metrics) -> Response:
    """``response``, counted in the metrics by its reason."""
    metrics.rejected.labels(error.reason).inc()
    return response(error)


def add_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Register the handlers of exceptions on ``app``."""

    async def on_service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return refuse(error, metrics)

    async def on_bug(request: Request, error: Exception) -> Response:
        # Starlette sends this response and then re-raises the error, which ``Observe`` logs.
        return refuse(UNEXPECTED, metrics)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = "nothing is served at this path" if error.status_code == 404 else None
        return _http_problem(error.status_code, detail, dict(error.headers or {}))

    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_bug)
