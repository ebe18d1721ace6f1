"""``POST /classify`` and ``POST /embed``: HTTP to the core and back, nothing else.

Plain ASGI: a request goes from the server's parser through our middleware straight to its endpoint. The frameworks'
routing, dependency resolution and exit stacks cost a tenth of a millisecond, two per cent of a request here;
everything else of the service is ordinary FastAPI (``app``).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import ServiceError
from service.http import problems, query
from service.http.body import ClientGone
from service.http.encode import Encoder, negotiate
from service.http.inference import Inference, Outcome
from service.http.middleware import KEY_OWNER
from service.http.timing import StageTimes
from service.metrics import Metrics

#: Never sent to anyone; names a vanished client in the access log and the metrics (nginx's convention).
CLIENT_CLOSED_REQUEST = 499

DEFAULT_TOP_K = 5

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
Encode = Callable[[Sequence[Outcome]], Response]


class Endpoints:
    """Both endpoints, bound to one model; ``by_path`` finds them."""

    def __init__(self, inference: Inference, encoder: Encoder, metrics: Metrics, num_classes: int) -> None:
        self._inference = inference
        self._encoder = encoder
        self._metrics = metrics
        self._num_classes = num_classes
        self.by_path: dict[str, Endpoint] = {"/classify": self.classify, "/embed": self.embed}

    async def classify(self, scope: Scope, receive: Receive, send: Send) -> None:
        def choose(headers: Headers, parameters: dict[str, str]) -> Encode:
            default = min(DEFAULT_TOP_K, self._num_classes)
            top_k = query.whole_number(parameters, "top_k", default=default, most=self._num_classes)
            return partial(self._encoder.classes, top_k=top_k)

        await self._answer(scope, receive, send, choose)

    async def embed(self, scope: Scope, receive: Receive, send: Send) -> None:
        def choose(headers: Headers, parameters: dict[str, str]) -> Encode:
            unit_length = query.boolean(parameters, "normalize", default=True)
            media_type = negotiate(headers.get("accept"))
            return partial(self._encoder.embeddings, unit_length=unit_length, media_type=media_type)

        await self._answer(scope, receive, send, choose)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, choose: Callable[[Headers, dict[str, str]], Encode]
    ) -> None:
        try:
            headers = Headers(scope=scope)
            # Parameters first: a request that asks for nonsense costs no inference.
            encode = choose(headers, query.parse(scope["query_string"]))
            response = await self._infer(headers, receive, encode, _client(scope))
        except ServiceError as error:
            response = problems.refuse(error, self._metrics)
        await response(scope, receive, send)

    async def _infer(self, headers: Headers, receive: Receive, encode: Encode, client: str) -> Response:
        times = StageTimes()
        try:
            outcomes = await self._inference.run(headers, receive, times, client)
        except ClientGone:
            self._metrics.cancelled.inc()
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        started = time.monotonic()
        response = _all_failed(outcomes) or encode(outcomes)
        times.add("encode", time.monotonic() - started)
        times.observe(self._metrics)
        response.headers["Server-Timing"] = times.header()
        return response


def _client(scope: Scope) -> str:
    """Who has a share in the limit: the owner of the API key, else the address."""
    owner: str | None = scope.get(KEY_OWNER)
    return owner or (scope["client"][0] if scope.get("client") else "")


def _all_failed(outcomes: Sequence[Outcome]) -> Response | None:
    """The first image's problem, if no image of the request was answered."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, ServiceError)]
    if len(errors) < len(outcomes):
        return None
    if len(errors) == 1:
        return problems.response(errors[0])
    return problems.response(errors[0], results=[{"error": problems.problem(error)} for error in errors])
