"""What can go wrong, by type.

ClientError                 what this package raises: the client is closed
└── ServiceError            a request failed; also itself, for any other status: 404, 500
    ├── BadImage            this image cannot be used: 400, 413, 415, 422, or it could not be read here
    ├── BadParameter        a parameter out of range: 422
    ├── Unauthorized        API key missing or wrong: 401, 403
    ├── EmbeddingMismatch   the service's weights are not those that were asked for: 412
    ├── ServiceUnavailable  overloaded, not ready or unreachable until the time was up: 429, 502, 503
    └── Timeout             no answer in time: 504
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx

PROBLEM = "application/problem+json"


class ClientError(Exception):
    """Whatever this package raises."""


class ServiceError(ClientError):
    """A request failed. ``status`` is 0 if there was no answer; ``request_id`` names it in the service's log."""

    def __init__(self, status: int, title: str, detail: str, request_id: str | None = None) -> None:
        super().__init__(status, title, detail, request_id)
        self.status, self.title, self.detail, self.request_id = status, title, detail, request_id

    def __str__(self) -> str:
        named = f" (request {self.request_id})" if self.request_id else ""
        return f"{f'{self.status} ' if self.status else ''}{self.title}: {self.detail}{named}"


class BadImage(ServiceError): ...


class BadParameter(ServiceError): ...


class Unauthorized(ServiceError): ...


class ServiceUnavailable(ServiceError): ...


class Timeout(ServiceError): ...


class EmbeddingMismatch(ServiceError):
    """``embedding_id`` is the service's, None if it names none; ``requested`` is the one that was asked for."""

    embedding_id: str | None = None
    requested: str | None = None


_TYPES: dict[int, type[ServiceError]] = {
    **dict.fromkeys((400, 413, 415, 422), BadImage),
    **dict.fromkeys((401, 403), Unauthorized),
    **dict.fromkeys((429, 502, 503), ServiceUnavailable),
    412: EmbeddingMismatch,
    504: Timeout,
}


def of_answer(answer: httpx.Response) -> ServiceError:
    """The error of an answer that is not 200: a problem document of the service, or what a proxy says."""
    problem: dict[str, Any] = {}
    if answer.headers.get("Content-Type", "").startswith(PROBLEM):
        with suppress(ValueError, TypeError):  # cut short or garbled on the way: the status counts
            problem = dict(answer.json())
    title = problem.get("title") or answer.reason_phrase or "Unexpected status"
    kind = _TYPES.get(answer.status_code, ServiceError)
    if kind is BadImage and title == "Invalid parameter":
        kind = BadParameter
    detail = problem.get("detail") or "the answer has no problem document; it may be a proxy's"
    error = kind(answer.status_code, title, detail, answer.headers.get("X-Request-Id"))
    if isinstance(error, EmbeddingMismatch):
        error.embedding_id, error.requested = problem.get("embedding_id"), problem.get("requested")
    return error
