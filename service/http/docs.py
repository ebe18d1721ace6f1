"""``/docs``: Swagger UI, served from files of an installed package so that no CDN is needed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.serving.registry import Registry

_ASSETS = "docs/assets"
_SCRIPT = "swagger-ui-bundle.js"
_STYLE = "swagger-ui.css"
_ICON = "favicon-32x32.png"

_UI_PARAMETERS = {"tryItOutEnabled": True, "displayRequestDuration": True, "defaultModelsExpandDepth": 0}

#: Allows the page's own files, its one inline script, and inline styles, which Swagger UI sets.
_POLICY = (
    "default-src 'none'; script-src 'self' 'sha256-{script}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: Browsers may cache the files but must revalidate them: an update of the service changes them.
_REVALIDATE = {"Cache-Control": "no-cache"}


class _Assets(StaticFiles):
    """Only the page's files: the package also contains byte code, which reveals paths."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path not in (_SCRIPT, _STYLE, _ICON):
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers.update(_REVALIDATE)
        return response


def add_docs(app: FastAPI, registry: Registry, *, without_key: Collection[str] | None, root: bool) -> None:
    """Add ``/docs`` and its assets, redirect ``/`` there if ``root``, and complete the OpenAPI document.

    ``without_key`` are the paths that need no API key; None if there are no API keys.
    """
    app.mount(f"/{_ASSETS}", _Assets(packages=[("fastapi_swagger", "resources")]))
    page = _page(app.title)

    @app.get("/docs", include_in_schema=False)
    async def swagger_ui() -> Response:
        return page

    if root:

        @app.get("/", include_in_schema=False)
        async def redirect() -> Response:
            return RedirectResponse("docs")

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            from service.http.openapi import components, inference_paths  # imported on demand, see there

            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            num_classes = registry.default.stable.num_classes
            document["paths"] = inference_paths(num_classes) | document["paths"]
            document["components"]["schemas"] |= components()
            # Relative to the document itself, so that it holds behind any proxy prefix.
            document["servers"] = [{"url": "."}]
            if without_key is not None:
                document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                for path in document["paths"].keys() - set(without_key):
                    for operation in document["paths"][path].values():
                        operation["security"] = [{"key": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _page(title: str) -> Response:
    # Relative addresses work behind any proxy prefix and scheme.
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url=f"{_ASSETS}/{_SCRIPT}",
        swagger_css_url=f"{_ASSETS}/{_STYLE}",
        swagger_favicon_url=f"{_ASSETS}/{_ICON}",
        swagger_ui_parameters=_UI_PARAMETERS,
    )
    inline = re.findall(rb"<script>(.*?)</script>", page.body, re.DOTALL)
    (script,) = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in inline)
    page.headers.update(_REVALIDATE)
    page.headers["Content-Security-Policy"] = _POLICY.format(script=script)
    page.headers["Referrer-Policy"] = "no-referrer"
    return page
