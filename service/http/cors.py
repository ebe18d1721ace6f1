"""Answers to web pages of other origins (CORS), with Starlette's middleware."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from service.errors import BadRequest
from service.http import problems

#: Headers of answers that a page may read.
_EXPOSED = ("Allow", "Embedding-Id", "Retry-After", "Server-Timing", "X-Request-Id", "X-Warning", "X-Warning-Count")


class Cors(CORSMiddleware):
    """Refuses preflights with a problem document, like every other error."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        refusal = problems.response(BadRequest(bytes(answer.body).decode()))
        refusal.headers["Vary"] = answer.headers["Vary"]
        return refusal


def cors(origins: Collection[str]) -> partial[Cors]:
    """What wraps an application so that pages of ``origins`` may ask it.

    Any header may be sent, API keys among them; cookies are not, because nothing here reads them.
    """
    return partial(
        Cors,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        expose_headers=_EXPOSED,
    )
