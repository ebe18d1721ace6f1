"""Pages of other origins: asked for by ``cors_origins``, refused otherwise; preflights are answered without a key."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from pydantic import ValidationError

from service.config import Settings
from service.model.artifact import Artifact
from tests.fakes import FakeRuntime
from tests.running import RunningApp, png, problem, running_app

HOME, STRANGER = "https://app.example.com", "https://evil.example.com"
KEY = "Zq7-secret"
READABLE = {"X-Request-Id", "Server-Timing", "X-Warning", "X-Warning-Count", "Retry-After"}


@pytest.fixture(scope="module")
def opened(artifact: Artifact) -> Iterator[RunningApp]:
    with running_app(artifact, cors_origins=f"{HOME}, http://localhost:3000", api_keys=KEY) as running:
        yield running


def preflight(app: RunningApp, origin: str, method: str = "POST", path: str = "/classify") -> httpx.Response:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type,x-api-key"}
    return app.client.options(path, headers={"Origin": origin, **asked})


@pytest.mark.parametrize("path", ["/classify", "/embed", "/explain", "/models", "/metrics"])
@pytest.mark.parametrize("origin", [HOME, "http://localhost:3000"])
def test_a_preflight_needs_no_key(opened: RunningApp, origin: str, path: str) -> None:
    answer = preflight(opened, origin, path=path)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type,x-api-key"
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    ("origin", "method"), [(STRANGER, "POST"), (f"{HOME}.evil.com", "POST"), ("null", "POST"), (HOME, "DELETE")]
)
def test_a_preflight_of_others_is_refused(opened: RunningApp, origin: str, method: str) -> None:
    answer = preflight(opened, origin, method)
    problem(answer, 400)
    assert answer.headers.get("access-control-allow-origin", HOME) == HOME


@pytest.mark.parametrize(
    ("body", "key", "status"), [(png(1), KEY, 200), (png(1), "wrong", 401), (b"no image", KEY, 415), (b"", KEY, 400)]
)
def test_answers_and_errors_can_be_read(opened: RunningApp, body: bytes, key: str, status: int) -> None:
    answer = opened.client.post("/classify", content=body, headers={"Origin": HOME, "X-API-Key": key})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == HOME
    assert set(answer.headers["access-control-expose-headers"].split(", ")) >= READABLE


def test_a_stranger_gets_an_answer_that_its_page_cannot_read(opened: RunningApp) -> None:
    answer = opened.client.post("/classify", content=png(1), headers={"Origin": STRANGER, "X-API-Key": KEY})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_our_own_mistakes_can_be_read_too(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_app(artifact, FakeRuntime(), cors_origins="*") as app:

        def fail(*given: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("service.http.operations._card", fail)
        answer = app.client.get("/models", headers={"Origin": STRANGER})
        problem(answer, 500)
        assert answer.headers["access-control-allow-origin"] == "*"


def test_it_is_off_by_default(app: RunningApp) -> None:
    answer = preflight(app, HOME)
    assert answer.status_code == 204
    assert not [name for name in answer.headers if name.startswith("access-control")]
    answer = app.client.post("/classify", content=png(1), headers={"Origin": HOME})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", ["*", "null", "https://a.example", "http://[::1]:8080,http://10.0.0.1", ""])
def test_these_are_origins(origins: str) -> None:
    assert ",".join(Settings.model_validate({"cors_origins": origins}).cors_origins) == origins


@pytest.mark.parametrize(
    "origins", ["a.example", "https://a.example/", "https://a/b", "https://*.a.example", "ftp://a"]
)
def test_these_are_none(origins: str) -> None:
    with pytest.raises(ValidationError, match="is no origin"):
        Settings.model_validate({"cors_origins": origins})
