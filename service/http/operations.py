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
from service.serving.registry import Registry, ServedModel

#: Asked every few seconds by machines. They need no API key, and the access log leaves out their successes.
PROBES = ("/livez", "/readyz", "/health", "/healthz", "/ping")


def create_router(registry: Registry, lifecycle: Lifecycle, metrics: Metrics, *, metrics_keyed: bool) -> APIRouter:
    router = APIRouter(tags=["operations"], responses=schemas.problem_responses(400, 431, 500))

    def leaving() -> bool:
        """Whether the service ends: with this process, unless another has taken its place."""
        return lifecycle.draining and not lifecycle.replaced

    async def not_ready() -> str:
        """Why not; empty if it is."""
        return "draining" if leaving() else await registry.ready()

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
        reason = await not_ready()
        return _json({"status": reason or "ok"}, status=503 if reason else 200)

    @router.get("/ping", include_in_schema=False)
    async def ping() -> Response:
        """As TorchServe words it."""
        reason = await not_ready()
        return _json({"status": reason or "Healthy"}, status=503 if reason else 200)

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
        summary="The models being served, their versions, figures and runtimes",
        responses=schemas.problem_responses(401),
        operation_id="list_models",
    )
    async def models() -> Response:
        cards = [
            _card(served, model, await served.engine.ready(), leaving())
            for model in registry
            for served in sorted(model.versions.values(), key=lambda served: served is not model.stable)
        ]
        return _json({"models": cards})

    @router.get(
        "/models/{name}/readyz",
        response_model=schemas.Status,
        responses={503: {"model": schemas.Status}, **schemas.problem_responses(401, 404)},
        summary="Whether one model can infer",
        operation_id="check_model_ready",
    )
    async def model_ready(name: str) -> Response:
        state = await registry.named(name).stable.engine.ready()
        reason = "draining" if leaving() else "" if state.ok else state.reason
        return _json({"status": reason or "ok"}, status=503 if reason else 200)

    return router


def _card(served: Served, model: ServedModel, state: Readiness, leaving: bool) -> dict[str, Any]:
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
        "aliases": [alias for alias, named in model.by_alias.items() if named == served.version],
        "ready": state.ok and not leaving,
        "runtime": state.info,
    }


def _json(content: dict[str, Any], *, status: int = 200) -> Response:
    return Response(
        orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS), status_code=status, media_type="application/json"
    )
