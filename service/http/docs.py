"""``/docs``: Swagger UI from this process's own files, so that it also works where no CDN can be reached."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from service.http import schemas

_ASSETS = "docs/assets"

_UI_PARAMETERS = {"tryItOutEnabled": True, "displayRequestDuration": True, "defaultModelsExpandDepth": 0}


def install(app: FastAPI, *, num_classes: int, keyed: Collection[str]) -> None:
    """Add ``/docs`` and its assets, send ``/`` there, and complete the OpenAPI document."""
    app.mount(f"/{_ASSETS}", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    async def swagger_ui() -> Response:
        # Relative addresses hold behind any proxy prefix and scheme.
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{_ASSETS}/favicon-32x32.png",
            swagger_ui_parameters=_UI_PARAMETERS,
        )

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("docs")

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            document["paths"] = schemas.inference_paths(num_classes) | document["paths"]
            document["components"]["schemas"] |= schemas.components()
            if keyed:
                document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                for path in keyed:
                    for operation in document["paths"][path].values():
                        operation["security"] = [{"key": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
