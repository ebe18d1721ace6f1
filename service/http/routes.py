"""``POST /classify`` and ``POST /embed``: HTTP to the core and back, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Query, Request, Response

from service.errors import ServiceError
from service.http import problems, schemas
from service.http.body import ClientGone
from service.http.encode import NPY, RAW, Encoder, negotiate
from service.http.inference import Inference, Outcome
from service.http.timing import StageTimes
from service.metrics import Metrics

#: Never sent to anyone; names a vanished client in the access log and the metrics (nginx's convention).
CLIENT_CLOSED_REQUEST = 499


def build(inference: Inference, encoder: Encoder, metrics: Metrics, num_classes: int) -> APIRouter:
    """Both endpoints, bound to one model."""
    router = APIRouter(tags=["inference"])

    async def answer(request: Request, encode: Callable[[Sequence[Outcome]], Response]) -> Response:
        times = StageTimes()
        try:
            outcomes = await inference.run(request.headers, request.receive, times)
        except ClientGone:
            metrics.cancelled.inc()
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        started = time.monotonic()
        response = _all_failed(outcomes) or encode(outcomes)
        times.add("encode", time.monotonic() - started)
        times.observe(metrics)
        response.headers["Server-Timing"] = times.header()
        return response

    @router.post(
        "/classify",
        response_model=schemas.ClassifyResponse,
        responses=schemas.problems(),
        openapi_extra={"requestBody": schemas.REQUEST_BODY},
        summary="Classes of one or more images",
    )
    async def classify(
        request: Request,
        top_k: int = Query(min(5, num_classes), ge=1, le=num_classes, description="How many classes an image."),
    ) -> Response:
        """Send one image as the body, or several as parts named `file` of a multipart form.

        With several, a bad image is reported in its place and the others are answered; if all are bad, the status
        is the first one's.
        """
        return await answer(request, lambda outcomes: encoder.classes(outcomes, top_k))

    @router.post(
        "/embed",
        response_model=schemas.EmbedResponse,
        responses={
            200: {"content": {RAW: {"schema": schemas.BINARY}, NPY: {"schema": schemas.BINARY}}},
            **schemas.problems(),
        },
        openapi_extra={"requestBody": schemas.REQUEST_BODY},
        summary="Feature vectors of one or more images",
    )
    async def embed(
        request: Request,
        normalize: bool = Query(True, description="Scale each vector to unit Euclidean length."),
    ) -> Response:
        """Send one image as the body, or several as parts named `file` of a multipart form.

        `Accept: application/octet-stream` gives the vectors as little-endian float32, row after row;
        `Accept: application/x-npy` as a NumPy file. In these two forms one bad image fails the request.
        """
        media_type = negotiate(request.headers.get("accept"))
        return await answer(
            request,
            lambda outcomes: encoder.embeddings(outcomes, unit_length=normalize, media_type=media_type),
        )

    return router


def _all_failed(outcomes: Sequence[Outcome]) -> Response | None:
    """The first image's problem, if no image of the request was answered."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, ServiceError)]
    if len(errors) < len(outcomes):
        return None
    if len(errors) == 1:
        return problems.response(errors[0])
    return problems.response(errors[0], results=[{"error": problems.problem(error)} for error in errors])
