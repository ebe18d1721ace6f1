"""``POST /classify``, ``/embed`` and ``/explain``: HTTP to the core and back, nothing else.

Plain ASGI: a request goes from the server's parser through our middleware straight to its endpoint. The frameworks'
routing, dependency resolution and exit stacks cost a tenth of a millisecond, two per cent of a request here;
everything else of the service is ordinary FastAPI (``app``).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import InvalidParameter, ServiceError
from service.http import problems, query
from service.http.body import ClientGone
from service.http.drawing import Drawings
from service.http.encode import NPY, PNG, RAW, Encoder, negotiate
from service.http.middleware import KEY_OWNER
from service.http.overlay import DEFAULT_OPACITY
from service.metrics import Metrics
from service.model.outputs import DEFAULT_TOP_K, MAPS_PER_ITEM
from service.serving.intake import Inference, Outcome
from service.serving.stage_times import StageTimes

#: Never sent to anyone; names a vanished client in the access log and the metrics (nginx's convention).
CLIENT_CLOSED_REQUEST = 499

#: Each is a method of ``Endpoints``.
PATHS = ("/classify", "/embed", "/explain")

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
Encode = Callable[[Sequence[Outcome]], Response]


class Wish(NamedTuple):
    """What a request asks for."""

    encode: Encode
    classes: tuple[int, ...] = ()  # whose maps the forward pass is to compute; none: of the strongest


class _WantedMaps(NamedTuple):
    """The parameters of ``/explain``."""

    classes: tuple[int, ...]
    top_k: int  # without classes
    embedding: bool
    opacity: float


class Endpoints:
    """The endpoints, bound to one model; ``by_path`` finds them."""

    def __init__(
        self, inference: Inference, encoder: Encoder, drawings: Drawings, metrics: Metrics, num_classes: int
    ) -> None:
        self._inference = inference
        self._encoder = encoder
        self._drawings = drawings
        self._metrics = metrics
        self._num_classes = num_classes
        self.by_path: dict[str, Endpoint] = {path: getattr(self, path.removeprefix("/")) for path in PATHS}

    async def classify(self, scope: Scope, receive: Receive, send: Send) -> None:
        def choose(headers: Headers, parameters: dict[str, str]) -> Wish:
            default = min(DEFAULT_TOP_K, self._num_classes)
            top_k = query.whole_number(parameters, "top_k", default=default, most=self._num_classes)
            return Wish(partial(self._encoder.classes, top_k=top_k))

        await self._answer(scope, receive, send, choose)

    async def embed(self, scope: Scope, receive: Receive, send: Send) -> None:
        def choose(headers: Headers, parameters: dict[str, str]) -> Wish:
            unit_length = query.boolean(parameters, "normalize", default=True)
            media_type = negotiate(headers.get("accept"), (RAW, NPY))
            return Wish(partial(self._encoder.embeddings, unit_length=unit_length, media_type=media_type))

        await self._answer(scope, receive, send, choose)

    async def explain(self, scope: Scope, receive: Receive, send: Send) -> None:
        if negotiate(Headers(scope=scope).get("accept"), (PNG,)) == PNG:
            await self._drawing(scope, receive, send)
            return

        def choose(headers: Headers, parameters: dict[str, str]) -> Wish:
            wanted = self._wanted_maps(parameters, most=MAPS_PER_ITEM)
            encode = partial(self._encoder.maps, classes=wanted.classes, top_k=wanted.top_k, embedding=wanted.embedding)
            return Wish(encode, wanted.classes)

        await self._answer(scope, receive, send, choose)

    async def _drawing(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            wanted = self._wanted_maps(query.parse(scope["query_string"]), most=1)
            client = _client(scope)
            await self._drawings.answer(scope, receive, send, client, classes=wanted.classes, opacity=wanted.opacity)
        except ServiceError as error:
            await problems.refuse(error, self._metrics)(scope, receive, send)
        except ClientGone:
            await self._nobody()(scope, receive, send)

    def _wanted_maps(self, parameters: dict[str, str], most: int) -> _WantedMaps:
        """Every parameter is checked, also one that only the other form of the answer looks at."""
        most = min(most, self._num_classes)
        wanted = _WantedMaps(
            classes=query.indices(parameters, "class", below=self._num_classes, most=most),
            top_k=query.whole_number(parameters, "top_k", default=most, most=most),
            embedding=query.boolean(parameters, "embedding", default=False),
            opacity=query.fraction(parameters, "opacity", default=DEFAULT_OPACITY),
        )
        if wanted.classes and "top_k" in parameters:
            raise InvalidParameter("class, top_k: one of the two is wanted")
        return wanted

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, choose: Callable[[Headers, dict[str, str]], Wish]
    ) -> None:
        try:
            headers = Headers(scope=scope)
            # Parameters first: a request that asks for nonsense costs no inference.
            wish = choose(headers, query.parse(scope["query_string"]))
            response = await self._infer(headers, receive, wish, _client(scope))
        except ServiceError as error:
            response = problems.refuse(error, self._metrics)
        await response(scope, receive, send)

    async def _infer(self, headers: Headers, receive: Receive, wish: Wish, client: str) -> Response:
        times = StageTimes()
        try:
            outcomes = await self._inference.run(headers, receive, times, client, wish.classes)
        except ClientGone:
            return self._nobody()
        started = time.monotonic()
        response = _all_failed(outcomes) or wish.encode(outcomes)
        times.add("encode", time.monotonic() - started)
        times.observe(self._metrics)
        response.headers["Server-Timing"] = times.header()
        return response

    def _nobody(self) -> Response:
        self._metrics.cancelled.inc()
        return Response(status_code=CLIENT_CLOSED_REQUEST)


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
