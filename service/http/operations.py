"""``/livez``, ``/readyz``, ``/metrics`` and ``/models``: the routes for operators and their tools."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Response

from service.engine.client import Readiness
from service.http import schemas
from service.metrics import CONTENT_TYPE, Metrics
from service.serving.intake import Served
from service.serving.lifecycle import Lifecycle

#: Asked every few seconds by machines. They need no API key, and the access log leaves out their successes.
PROBES = ("/livez", "/readyz", "/health", "/healthz", "/ping")


def create_router(served: Served, lifecycle: Lifecycle, metrics: Metrics, *, metrics_keyed: bool) -> APIRouter:
    router = APIRouter(tags=["operations"], responses=schemas.problem_responses(400, 431, 500))

    async def readiness() -> Readiness:
        state = await served.engine.ready()
        return Readiness(False, "draining", state.info) if lifecycle.draining else state

    @router.get(
        "/livez", response_model=schemas.Status, summary="Whether the process answers", operation_id="check_live"
    )
    async def livez() -> Response:
        return _json({"status": "ok"})

    @router.get(
        "/readyz",
        response_model=schemas.Status,
        responses={503: {"model": schemas.Status, "description": "Starting, failing or shutting down."}},
        summary="Whether the service can infer",
        operation_id="check_ready",
    )
    @router.get("/health", include_in_schema=False)
    @router.get("/healthz", include_in_schema=False)
    async def readyz() -> Response:
        """Ready once a probe image has gone through the model; then for as long as the last batch succeeded.

        `/health`, `/healthz` and `/ping` answer alike.
        """
        state = await readiness()
        return _json({"status": "ok" if state.ok else state.reason}, status=200 if state.ok else 503)

    @router.get("/ping", include_in_schema=False)
    async def ping() -> Response:
        """As TorchServe words it."""
        state = await readiness()
        return _json({"status": "Healthy" if state.ok else state.reason}, status=200 if state.ok else 503)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"description": "Text exposition format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **(schemas.problem_responses(401) if metrics_keyed else {}),
        },
        summary="Prometheus metrics",
        operation_id="get_metrics",
    )
    async def prometheus() -> Response:
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    @router.get(
        "/models",
        summary="The model being served, its figures and its runtime",
        responses=schemas.problem_responses(401),
        operation_id="list_models",
    )
    async def models() -> Response:
        return _json({"models": [_card(served, await readiness())]})

    return router


def _card(served: Served, state: Readiness) -> dict[str, Any]:
    artifact, manifest = served.artifact, served.artifact.manifest
    known = state.info is not None or served.precision == "fp32"
    return {
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "licence": manifest.licence,
        "weights_sha256": artifact.digest,
        "architecture": manifest.architecture.model_dump(),
        "preprocessing": manifest.preprocessing.model_dump(),
        "head": manifest.head,
        "embedding_dim": artifact.network.embedding_dim,
        "embedding_id": served.embedding_id(unit_length=True) if known else None,
        "measured": manifest.measured,
        "ready": state.ok,
        "runtime": state.info,
    }


def _json(content: dict[str, Any], *, status: int = 200) -> Response:
    return Response(
        orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS), status_code=status, media_type="application/json"
    )
