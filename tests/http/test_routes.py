"""The one table of routes: labels, keys and direct calls, by exact paths and by templates."""

from __future__ import annotations

import pytest
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from service.http.routes import InferenceRoute, RouteTable

pytestmark = pytest.mark.anyio


def table(called: list[str]) -> RouteTable:
    async def infer(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(f"infer {scope.get('path_params', {}).get('name', '')}".strip())

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(f"other {scope['method']}")

    routes = [
        InferenceRoute("/classify", infer),
        InferenceRoute("/models/{name}/classify", infer),
        Route("/files/one", other),
        Mount("/docs/assets", other),
    ]
    return RouteTable(routes, keyless=("/docs/assets", "/files/one"), otherwise=other)


@pytest.mark.parametrize(
    ("path", "label", "keyless", "posted"),
    [
        ("/classify", "classify", False, "infer"),
        ("/models/mine/classify", "models/{name}/classify", False, "infer mine"),
        ("/models//classify", "other", False, "other POST"),
        ("/models/a/b/classify", "other", False, "other POST"),
        ("/classify/", "other", False, "other POST"),
        ("/files/one", "other", True, "other POST"),
        ("/docs/assets/a.css", "other", True, "other POST"),
        ("/docs/assets", "other", True, "other POST"),
        ("/docs/assetsx", "other", False, "other POST"),
        ("/nowhere", "other", False, "other POST"),
    ],
)
async def test_every_path_has_one_entry(path: str, label: str, keyless: bool, posted: str) -> None:
    called: list[str] = []
    routes = table(called)
    for method, expected in (("POST", posted), ("GET", "other GET"), ("HEAD", "other GET")):
        scope: Scope = {"type": "http", "method": method, "path": path}
        entry = routes.enter(scope)
        assert (entry.label, entry.keyless) == (label, keyless)
        await routes(scope, None, None)  # type: ignore[arg-type]  # neither is used
        assert called.pop() == expected
    assert routes.labels == ["classify", "models/{name}/classify", "other"]
