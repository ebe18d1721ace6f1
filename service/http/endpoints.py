"""``POST /classify``, ``/embed`` and ``/explain``: translate requests for ``serving`` and its outcomes back.

Plain ASGI: requests pass from our middleware directly to their endpoint, because the routing, dependency resolution
and exit stacks of FastAPI take 0.1 ms, 2 % of a request here. All other routes are ordinary FastAPI (``operations``).
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
from service.http import problems
from service.http.drawing import Drawings
from service.http.encode import NPY, PNG, RAW, Encoder, Warnings, negotiate
from service.http.overlay import DEFAULT_OPACITY
from service.http.parameters import MapParameters, Parameters
from service.http.request import ClientGone, Exchange, cancelled_by_disconnect
from service.model.outputs import DEFAULT_TOP_K, MAPS_PER_ITEM
from service.serving.intake import Outcome, Served, StageTimes

#: Never sent: stands for a client that disconnected, in the access log and the metrics (nginx's convention).
CLIENT_CLOSED_REQUEST = 499

#: Each is served by the method of ``Endpoints`` of the same name, for the default model and for each by its name.
INFERENCE_PATHS = ("/classify", "/embed", "/explain")
OF_ONE_MODEL = "/models/{name}"

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class ResponsePlan(NamedTuple):
    """How to answer a request; known before its body is read, unless its form has parameters."""

    encode: Callable[[Sequence[Outcome], Warnings], Response]
    classes: tuple[int, ...] = ()  # to compute maps of; empty: of the strongest


class Endpoints:
    """The inference endpoints; ``by_path`` maps each path to its endpoint."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._drawings = Drawings(exchange)
        self.by_path: dict[str, Endpoint] = {
            prefix + path: getattr(self, path.removeprefix("/"))
            for prefix in ("", OF_ONE_MODEL)
            for path in INFERENCE_PATHS
        }

    async def classify(self, scope: Scope, receive: Receive, send: Send) -> None:
        def plan(served: Served, parameters: Parameters) -> ResponsePlan:
            most = served.num_classes
            top_k = parameters.whole_number("top_k", default=min(DEFAULT_TOP_K, most), most=most)
            return ResponsePlan(partial(Encoder(served).classes, top_k=top_k))

        await self._answer(scope, receive, send, plan)

    async def embed(self, scope: Scope, receive: Receive, send: Send) -> None:
        def plan(served: Served, parameters: Parameters) -> ResponsePlan:
            unit_length = parameters.boolean("normalize", default=True)
            identity = _embedding_id(served, scope, unit_length)
            media_type = negotiate(Headers(scope=scope).get("accept"), (RAW, NPY))
            encode = Encoder(served).embeddings
            return ResponsePlan(partial(encode, unit_length=unit_length, identity=identity, media_type=media_type))

        await self._answer(scope, receive, send, plan, vectors=True)

    async def explain(self, scope: Scope, receive: Receive, send: Send) -> None:
        if negotiate(Headers(scope=scope).get("accept"), (PNG,)) == PNG:
            await self._drawing(scope, receive, send)
            return

        def plan(served: Served, parameters: Parameters) -> ResponsePlan:
            maps = _map_parameters(served, parameters, most=MAPS_PER_ITEM)
            identity = _embedding_id(served, scope, unit_length=True) if maps.embedding else ""
            encode = partial(Encoder(served).maps, classes=maps.classes, top_k=maps.top_k, identity=identity)
            return ResponsePlan(encode, maps.classes)

        await self._answer(scope, receive, send, plan, vectors=True)

    async def _drawing(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._drawings.answer(scope, receive, send, partial(_map_parameters, most=1))
        except ServiceError as error:
            await problems.refuse(error, self._exchange.metrics)(scope, receive, send)
        except ClientGone:
            await self._client_gone()(scope, receive, send)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        make_plan: Callable[[Served, Parameters], ResponsePlan],
        *,
        vectors: bool = False,
    ) -> None:
        times, sent = StageTimes(), _nothing
        try:
            admitted = self._exchange.admitted(scope, receive, times, make_plan, vectors=vectors)
            async with admitted as request, cancelled_by_disconnect(receive):
                model, served, photos, deadline, parameters, plan, priority = request
                outcomes = await self._exchange.intake.infer(
                    served, photos, deadline, times, plan.classes, priority=priority
                )
            sent = partial(model.answered, served, photos, outcomes)
            started = time.monotonic()
            warnings = Warnings(parameters, outcomes)
            response = _all_failed(outcomes) or plan.encode(outcomes, warnings)
            if response.status_code == 200:
                response.headers.update(warnings.headers)
            times.add(encode=time.monotonic() - started)
            response.headers["Server-Timing"] = times.observe(served.metrics)
        except ServiceError as error:
            response = problems.refuse(error, self._exchange.metrics)
        except ClientGone:
            response = self._client_gone()
        await response(scope, receive, send)
        sent()

    def _client_gone(self) -> Response:
        self._exchange.metrics.cancelled.inc()
        return Response(status_code=CLIENT_CLOSED_REQUEST)


def _nothing() -> None:
    """No image was inferred."""


def _embedding_id(served: Served, scope: Scope, unit_length: bool) -> str:
    """That of the vectors in the answer. OtherEmbedding if the request asks for those of another."""
    return served.embedding_id(unit_length=unit_length, requested=Headers(scope=scope).getlist("embedding-id"))


def _map_parameters(served: Served, parameters: Parameters, most: int) -> MapParameters:
    """All parameters are checked, including those that the other form of the answer uses."""
    most = min(most, served.num_classes)
    maps = MapParameters(
        classes=parameters.indices("class", below=served.num_classes, most=most),
        top_k=parameters.whole_number("top_k", default=most, most=most),
        embedding=parameters.boolean("embedding", default=False),
        opacity=parameters.fraction("opacity", default=DEFAULT_OPACITY),
    )
    if maps.classes and "top_k" in parameters.values:
        raise InvalidParameter("class, top_k: only one of the two may be given")
    return maps


def _all_failed(outcomes: Sequence[Outcome]) -> Response | None:
    """The first image's problem, if no image of the request was answered."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, ServiceError)]
    if len(errors) < len(outcomes):
        return None
    if len(errors) == 1:
        return problems.response(errors[0])
    return problems.response(errors[0], results=[{"error": problems.problem(error)} for error in errors])
