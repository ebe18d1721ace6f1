"""The ASGI application: routes, middleware and error handlers around ``serving``.

``create_app`` starts nothing: its caller owns the engine, the intake and the server.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service import __version__
from service.config import Settings
from service.http import docs, operations, page, problems
from service.http.cors import cors
from service.http.endpoints import OF_ONE_MODEL, Endpoints
from service.http.forwarded import Forwarded
from service.http.middleware import ApiKeys, HeaderLimit, Observe
from service.http.request import Exchange
from service.http.routes import InferenceRoute, RouteTable
from service.metrics import Metrics
from service.serving.intake import Intake
from service.serving.lifecycle import Lifecycle
from service.serving.registry import Registry

#: Paths that need no API key. All others do, so that no variant spelling of a path gets around the keys.
_KEYLESS = ("/", *operations.PROBES, f"{OF_ONE_MODEL}/readyz", "/docs", "/docs/assets", "/openapi.json")

_DESCRIPTION = """\
ImageNet classes, feature vectors and class maps from [MobileNetV2](https://arxiv.org/abs/1801.04381). Try it here: open
`POST /classify`, press *Try it out*, choose a photo, *Execute*. From a shell:

    curl --data-binary @cat.jpg http://127.0.0.1:8000/classify
    curl -F file=@cat.jpg -F file=@dog.jpg "http://127.0.0.1:8000/classify?top_k=3"
    curl --data-binary @cat.jpg -H "Accept: application/x-npy" -o cat.npy http://127.0.0.1:8000/embed
    curl --data-binary @cat.jpg -H "Accept: image/png" -o map.png http://127.0.0.1:8000/explain
"""


class Service(FastAPI):
    """A FastAPI application behind ``front``, our own middleware; inference endpoints bypass FastAPI's stack."""

    front: ASGIApp
    table: RouteTable
    api_keys: ApiKeys | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)

    async def through_fastapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)


def create_app(
    settings: Settings, registry: Registry, intake: Intake, lifecycle: Lifecycle, metrics: Metrics
) -> Service:
    """The application that answers for the models of ``registry``."""
    app = Service(
        title="MobileNetV2 inference service",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the wrong scheme behind TLS
    )
    endpoints = Endpoints(Exchange(registry, intake, metrics, settings.max_images))
    app.router.routes += [InferenceRoute(path, endpoint) for path, endpoint in endpoints.by_path.items()]
    # Not include_router(), which would nest the routes: the table wants them one by one.
    router = operations.create_router(registry, lifecycle, metrics, metrics_keyed=settings.protect_metrics)
    app.router.routes += router.routes
    keys = settings.accepted_keys()
    keyless = _KEYLESS if settings.protect_metrics else (*_KEYLESS, "/metrics")
    if settings.page:
        page.add_page(app, docs=settings.docs)
        keyless = (*keyless, *page.PATHS)
    if settings.docs:
        docs.add_docs(app, registry, without_key=keyless if keys else None, root=not settings.page)
    problems.add_handlers(app, metrics)

    app.table = RouteTable(app.router.routes, keyless=keyless, otherwise=app.through_fastapi)
    front: ASGIApp = app.table
    if keys:
        front = app.api_keys = ApiKeys(front, keys=keys, metrics=metrics)
    around = cors(settings.cors_origins) if settings.cors_origins else _as_it_is
    app.front = Observe(
        around(HeaderLimit(front, metrics=metrics)),
        metrics=metrics,
        routes=app.table,
        lifecycle=lifecycle,
        access_log=settings.access_log,
        unlogged=() if settings.log_probes else (*operations.PROBES, "/metrics"),
        around=around,
    )
    if settings.forwarded_allow_ips:
        app.front = Forwarded(app.front, settings.forwarded_allow_ips)
    return app


def _as_it_is(app: ASGIApp) -> ASGIApp:
    return app
