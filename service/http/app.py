"""The ASGI application: routes, middleware and error handlers around one ``EngineClient``.

``create_app`` starts nothing: whoever calls it owns the engine and the server (``service.single``
or a worker in production, a fixture in tests).
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service import __version__
from service.artifact import Artifact
from service.capacity import Capacity
from service.config import Settings
from service.engine import EngineClient
from service.http import docs, operations, page, problems
from service.http.encode import Encoder
from service.http.endpoints import PATHS, Endpoint, Endpoints
from service.http.inference import Inference
from service.http.middleware import ApiKeys, HeaderLimit, Observe
from service.http.picture import Pictures
from service.image import Limits
from service.metrics import Metrics

#: Values of the ``endpoint`` label; every other path is "other".
ENDPOINTS = (*(path.removeprefix("/") for path in PATHS), "livez", "readyz", "metrics", "models", "docs")
#: What needs no API key; everything else does, so that a path that only looks like another one is no way around it.
_OPEN = ("/", "/livez", "/readyz", "/docs", "/openapi.json")

_DESCRIPTION = """\
ImageNet classes, feature vectors and class maps from [MobileNetV2](https://arxiv.org/abs/1801.04381). Try it here: open
`POST /classify`, press *Try it out*, choose a photo, *Execute*. From a shell:

    curl --data-binary @cat.jpg http://127.0.0.1:8000/classify
    curl -F file=@cat.jpg -F file=@dog.jpg "http://127.0.0.1:8000/classify?top_k=3"
    curl --data-binary @cat.jpg -H "Accept: application/x-npy" -o cat.npy http://127.0.0.1:8000/embed
    curl --data-binary @cat.jpg -H "Accept: image/png" -o map.png http://127.0.0.1:8000/explain
"""


class Service(FastAPI):
    """A FastAPI application whose inference endpoints are reached without its stack; ``front`` decides.

    ``inference.drain()`` begins the drain.
    """

    inference: Inference
    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)

    async def through_fastapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)


def create_app(
    settings: Settings,
    engine: EngineClient,
    artifact: Artifact,
    metrics: Metrics,
    capacity: Capacity,
    worked: Callable[[], object] = lambda: None,
) -> Service:
    """The service over ``engine``; ``worked`` is called after each request that was inferred."""
    transform, limits = artifact.manifest.preprocessing.transform(), Limits(max_pixels=capacity.max_pixels)
    inference = Inference(
        engine,
        metrics,
        transform=transform,
        mode=settings.decode,
        limits=limits,
        max_in_flight=capacity.max_in_flight,
        max_client_share=settings.max_client_share,
        max_body_bytes=settings.max_body_bytes,
        max_images=settings.max_images,
        timeout_s=settings.request_timeout_ms / 1e3,
        worked=worked,
    )
    num_classes = artifact.manifest.architecture.num_classes
    encoder = Encoder(artifact.manifest.name, artifact.manifest.version, artifact.labels, transform)
    pictures = Pictures(inference, metrics, artifact.labels, transform, limits)
    endpoints = Endpoints(inference, encoder, pictures, metrics, num_classes).by_path

    app = Service(
        title="MobileNetV2 inference service",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the wrong scheme behind TLS
    )
    app.inference = inference
    for path, endpoint in endpoints.items():
        # For the methods it does not take, and for whoever mounts the application into another.
        app.router.routes.append(Route(path, _Direct(endpoint), methods=["POST"]))
    app.include_router(operations.build(inference, artifact, metrics, metrics_keyed=settings.protect_metrics))
    keys = settings.accepted_keys()
    without_key = _OPEN if settings.protect_metrics else (*_OPEN, "/metrics")
    if settings.page:
        page.install(app, docs=settings.docs)
        without_key = (*without_key, *page.PATHS)
    if settings.docs:
        docs.install(app, num_classes=num_classes, without_key=without_key if keys else None, root=not settings.page)
    problems.install(app, metrics)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        direct: Endpoint | None = None
        if scope["type"] == "http":
            if scope["method"] == "POST":
                direct = endpoints.get(scope["path"])
            elif scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}  # the server, which knows, sends no body
        await (direct or app.through_fastapi)(scope, receive, send)

    front: ASGIApp = dispatch
    if keys:
        front = ApiKeys(front, keys=keys, without_key=without_key, metrics=metrics)
    app.front = Observe(
        HeaderLimit(front, metrics=metrics),
        metrics=metrics,
        endpoints=ENDPOINTS,
        access_log=settings.access_log,
        draining=lambda: inference.draining,
    )
    return app


class _Direct:
    """Starlette takes a function or a method for a request handler, and anything else for an ASGI application."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(scope, receive, send)
