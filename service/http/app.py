"""The ASGI application: routes, middleware and error handlers around one ``EngineClient``.

``create_app`` starts nothing: whoever calls it owns the engine and the server (``service.cli`` in production, a
fixture in tests).
"""

from __future__ import annotations

from concurrent.futures import Executor

from fastapi import FastAPI
from starlette.middleware import Middleware

from service import __version__
from service.artifact import Artifact
from service.config import Settings
from service.engine import EngineClient
from service.http import docs, operations, problems, routes
from service.http.encode import Encoder
from service.http.inference import Inference
from service.http.middleware import ApiKeys, HeaderLimit, Observe
from service.metrics import Metrics
from service.preprocess import Limits

_ENDPOINTS = ("classify", "embed", "livez", "readyz", "metrics", "models", "docs")
_PROTECTED = ("/classify", "/embed", "/models")

_DESCRIPTION = """\
ImageNet classes and feature vectors from [MobileNetV2](https://arxiv.org/abs/1801.04381). Try it here: open
`POST /classify`, press *Try it out*, choose a photo, *Execute*. From a shell:

    curl --data-binary @cat.jpg http://127.0.0.1:8000/classify
    curl -F file=@cat.jpg -F file=@dog.jpg "http://127.0.0.1:8000/classify?top_k=3"
    curl --data-binary @cat.jpg -H "Accept: application/x-npy" -o cat.npy http://127.0.0.1:8000/embed
"""


def create_app(
    settings: Settings, engine: EngineClient, decoders: Executor, artifact: Artifact, metrics: Metrics
) -> FastAPI:
    """The service over ``engine``, decoding on ``decoders``.

    ``app.state.inference.draining = True`` begins the drain.
    """
    inference = Inference(
        engine,
        metrics,
        transform=artifact.manifest.preprocessing.transform(),
        mode=settings.decode,
        limits=Limits(max_pixels=settings.max_pixels),
        decoders=decoders,
        max_in_flight=settings.max_in_flight,
        max_body_bytes=settings.max_body_bytes,
        max_images=settings.max_images,
        timeout_s=settings.request_timeout_ms / 1e3,
    )
    encoder = Encoder(artifact.manifest.name, artifact.manifest.version, artifact.labels)

    keyed = [Middleware(ApiKeys, keys=settings.api_keys, protected=_PROTECTED, metrics=metrics)]

    app = FastAPI(
        title="MobileNetV2 inference service",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(
                Observe,
                metrics=metrics,
                endpoints=_ENDPOINTS,
                access_log=settings.access_log,
                draining=lambda: inference.draining,
            ),
            Middleware(HeaderLimit, metrics=metrics),
            *(keyed if settings.api_keys else []),
        ],
    )
    app.state.inference = inference
    app.include_router(routes.build(inference, encoder, metrics, artifact.manifest.architecture.num_classes))
    app.include_router(operations.build(inference, artifact, metrics))
    docs.install(app, keyed=bool(settings.api_keys))
    problems.install(app, metrics)
    return app
