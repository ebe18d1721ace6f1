"""What every answer brings and what none holds, and which doors can be closed."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from service.errors import Overloaded, ServiceError
from service.model.artifact import Artifact
from tests.documents import errors
from tests.hostile.http.wire import get, wire
from tests.running import RunningApp, png, running_app
from tests.waiting import until

DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/classify", 200),
        ("POST", "/embed", 200),
        ("POST", "/explain", 200),
        ("POST", "/classify?top_k=0", 422),
        ("GET", "/classify", 405),
        ("GET", "/nothing", 404),
        ("GET", "/models", 200),
        ("GET", "/metrics", 200),
        ("GET", "/livez", 200),
        ("GET", "/openapi.json", 200),
    ],
)
def test_every_answer_is_data_and_nothing_else(app: RunningApp, method: str, path: str, status: int) -> None:
    answer = app.client.request(method, path, content=png(1) if method == "POST" else None)
    assert answer.status_code == status
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("content-security-policy") == [DATA_POLICY]
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert "server" not in answer.headers


def test_the_page_runs_its_own_files_and_one_script(app: RunningApp) -> None:
    page = app.client.get("/docs")
    (policy,) = page.headers.get_list("content-security-policy")
    directives = {name: values for name, *values in (part.split() for part in policy.split(";"))}
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert directives["script-src"] == ["'self'", f"'sha256-{digest}'"]
    assert directives["default-src"] == directives["frame-ancestors"] == ["'none'"]
    assert "http" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert re.findall(r"\son\w+=|javascript:", page.text) == []


def test_the_pages_files_are_asked_for_again_and_sent_once(app: RunningApp) -> None:
    first = app.client.get("/docs/assets/swagger-ui.css")
    assert first.headers["cache-control"] == "no-cache"
    again = app.client.get("/docs/assets/swagger-ui.css", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_documentation_can_be_closed(artifact: Artifact) -> None:
    with running_app(artifact, docs=False, page=False) as app:
        for path in ("/", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css", "/redoc", "/docs/oauth2-redirect"):
            assert app.client.get(path).status_code == 404
        assert app.client.get("/livez").status_code == 200
        assert app.client.post("/classify", content=png(1)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/livez", "/readyz", "/metrics", "/models", "/openapi.json"])
def test_what_answers_get_answers_head(app: RunningApp, path: str) -> None:
    got, headed = app.client.get(path), app.client.head(path)
    assert headed.status_code == got.status_code
    assert headed.content == b""
    assert headed.headers.get("content-type") == got.headers.get("content-type")
    assert set(app.client.delete(path).headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


class Unforeseen(Exception):
    """Its text and its place must stay inside."""


@pytest.mark.parametrize("error", [*errors(), Unforeseen, MemoryError, OSError], ids=lambda error: error.__name__)
@pytest.mark.parametrize("path", ["/classify", "/embed", "/models"])
def test_no_error_shows_the_inside(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch, error: type[Exception], path: str
) -> None:
    secret = "/srv/secret/place.py"

    async def fails(*given: object, **named: object) -> None:
        raise error("the detail") if issubclass(error, ServiceError) else error(2, secret, secret)

    monkeypatch.setattr(app.intake, "infer", fails)
    monkeypatch.setattr(app.served.engine, "ready", fails)
    answer = app.client.get(path) if path == "/models" else app.client.post(path, content=png(1))
    status = error.status if issubclass(error, ServiceError) else 500
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().keys() == {"type", "status", "title", "detail"}
    assert ("retry-after" in answer.headers) == (status == 503 or issubclass(error, Overloaded))
    for leak in (secret, "Traceback", ".py", "Unforeseen", "MemoryError", "object at"):
        assert leak not in answer.text + str(answer.headers)


def _paths(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of the access log, what begins with /a: a line of the request before may come late."""
    paths = [vars(record)["fields"]["path"] for record in caplog.records if record.name == "service.access"]
    return [path for path in paths if path.startswith("/a")]


def test_a_path_cannot_write_into_the_log(app: RunningApp, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "service.access"), wire(app.address) as connection:
        connection.send(get("/a%0ainfo%20forged%1b[31m" + "b" * 5000))
        assert connection.status() == 404
        until(lambda: _paths(caplog) != [], timeout=10, what="its line, which may come after its answer", every=0.005)
    (path,) = _paths(caplog)
    assert path.startswith("/a%0ainfo%20forged%1b[31mbbb")
    assert len(path) == 256
