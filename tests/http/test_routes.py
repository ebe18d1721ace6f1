"""The one table of routes: labels, keys and direct calls, by exact paths and by templates."""

from __future__ import annotations

import pytest
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

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
    ("path", "label", "keyless", "answers"),
    [
        ("/classify", "classify", False, ["infer", "405", "405", "204"]),
        ("/models/mine/classify", "models/{name}/classify", False, ["infer mine", "405", "405", "204"]),
        ("/models//classify", "other", False, ["other POST", "other GET", "other HEAD", "other OPTIONS"]),
        ("/models/a/b/classify", "other", False, ["other POST", "other GET", "other HEAD", "other OPTIONS"]),
        ("/classify/", "other", False, ["other POST", "other GET", "other HEAD", "other OPTIONS"]),
        ("/files/one", "other", True, ["405", "other GET", "other GET", "204"]),
        ("/docs/assets/a.css", "other", True, ["405", "other GET", "other GET", "204"]),
        ("/docs/assets", "other", True, ["other POST", "other GET", "other HEAD", "other OPTIONS"]),
        ("/docs/assetsx", "other", False, ["other POST", "other GET", "other HEAD", "other OPTIONS"]),
        ("/nowhere", "other", False, ["other POST", "other GET", "other HEAD", "other OPTIONS"]),
        ("*", "other", False, ["other POST", "other GET", "other HEAD", "204"]),
    ],
)
async def test_every_path_has_one_entry(path: str, label: str, keyless: bool, answers: list[str]) -> None:
    called: list[str] = []
    routes = table(called)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            called.append(str(message["status"]))

    for method, expected in zip(("POST", "GET", "HEAD", "OPTIONS"), answers, strict=True):
        scope: Scope = {"type": "http", "method": method, "path": path}
        entry = routes.enter(scope)
        assert (entry.label, entry.keyless) == (label, keyless or (path, method) == ("*", "OPTIONS"))
        await routes(scope, None, send)  # type: ignore[arg-type]  # the body is not read
        assert called.pop() == expected
        assert not called
    assert routes.labels == ["classify", "models/{name}/classify", "other"]
