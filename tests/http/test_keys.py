"""API keys: where they come from, what they open, that nothing shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.cli.options import settings_from
from service.config import Settings
from service.errors import OperatorError
from service.http.endpoints import INFERENCE_PATHS, OF_ONE_MODEL
from service.model.artifact import Artifact
from tests.hostile.http.wire import Wire, get, post, wire
from tests.running import RunningApp, png, problem, running_app

KEY = "Zq7-secret-of-the-environment"
OTHER = "Kx9-secret-of-the-file"
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secrets") / "keys"
    path.write_text(f"# für die Büros\n\n  {OTHER}\t\r\n#{OTHER}-old\n   # indented\nlast-line-without-end")
    return path


@pytest.fixture(scope="module")
def keyed(artifact: Artifact, key_file: Path) -> Iterator[RunningApp]:
    with running_app(artifact, api_keys=KEY, api_keys_file=key_file, protect_metrics=True) as running:
        yield running


@pytest.mark.parametrize("key", [KEY, OTHER, "last-line-without-end"])
def test_keys_of_both_sources_open(keyed: RunningApp, key: str) -> None:
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, {"Authorization": f"bearer   {key}"}):
        assert keyed.client.post("/classify", content=png(1), headers=headers).status_code == 200


@pytest.mark.parametrize(
    "key", ["", "#", f"#{OTHER}-old", f"{OTHER}-old", "# indented", KEY[:-1], f"{KEY}x", KEY.upper(), f"Basic {KEY}"]
)
def test_nothing_else_opens(keyed: RunningApp, key: str) -> None:
    before = len(keyed.runtime.batches)
    for headers in ({}, {"Authorization": f"Bearer {key}".strip()}, {"X-API-Key": key}, {"Authorization": key}):
        for path in ("/classify", "/embed"):
            refused = keyed.client.post(path, content=png(1), headers=headers)
            problem(refused, 401)
            assert refused.headers["www-authenticate"] == "Bearer"
        problem(keyed.client.get("/models", headers=headers), 401)
    assert keyed.client.get("/readyz").status_code == 200
    assert len(keyed.runtime.batches) == before


#: Paths that mean a protected one to somebody between the client and the handler.
DISGUISES = (
    "/classify", "/embed", "/models", "/metrics", "/classify%0a", "/embed%0A", "/models%0a", "/metrics%0a",
    "/classify/", "//classify", "/./classify", "/docs/../classify", "/%63lassify", "/classify%00", "/classify%2f",
    "/classify;a=b", "/CLASSIFY", "/classify%20", "/livez%0a", "/livez/../models", "/docs/assets/../../models",
    "/docs/assets/%2e%2e/models", "http://x/classify", "/docs%2f..%2fmodels",
)  # fmt: skip


@pytest.mark.parametrize("path", DISGUISES)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT"])
def test_no_path_leads_around_the_key(keyed: RunningApp, path: str, method: str) -> None:
    before = len(keyed.runtime.batches)
    with wire(keyed.address) as connection:
        connection.send(post(png(1), path=path) if method == "POST" else get(path, method=method))
        answer = connection.answer(to_head=method == "HEAD")
    assert answer is not None
    in_the_assets = (404,) if method in ("GET", "HEAD") else (405,)
    assert answer.status in ((401, *in_the_assets) if path.startswith("/docs/assets/") else (401,))
    assert len(keyed.runtime.batches) == before


def test_metrics_ask_for_a_key_where_that_is_wanted(keyed: RunningApp, artifact: Artifact) -> None:
    assert keyed.client.get("/metrics").status_code == 401
    assert "mobilenet_ready" in keyed.client.get("/metrics", headers=BEARER).text
    assert {"security", "responses"} <= keyed.client.get("/openapi.json").json()["paths"]["/metrics"]["get"].keys()
    with running_app(artifact, api_keys=KEY) as running:
        assert running.client.get("/metrics").status_code == 200
        paths = running.client.get("/openapi.json").json()["paths"]
    secured = {path for path, item in paths.items() for operation in item.values() if "security" in operation}
    inference = {prefix + path for prefix in ("", OF_ONE_MODEL) for path in INFERENCE_PATHS}
    assert secured == {*inference, "/models"}, "only what asks for a key says so"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"])
def test_health_and_documentation_need_no_key(keyed: RunningApp, path: str) -> None:
    assert keyed.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "contains no key"),
        (b"# only\n  # comments\n\n", "contains no key"),
        (f"{OTHER} and more".encode(), "printable ASCII"),
        (f"{OTHER}ü".encode(), "printable ASCII"),
        (f"{OTHER}\xff".encode("latin-1"), "printable ASCII"),
        (f"{OTHER}\0".encode(), "printable ASCII"),
    ],
)
def test_a_file_that_is_wrong_is_refused_without_showing_it(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(OperatorError, match=f"--api-keys-file: .*{complaint}") as caught:
        settings_from(api_keys_file=str(path))
    assert OTHER not in str(caught.value)


@pytest.mark.parametrize("path", ["missing", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(OperatorError, match="--api-keys-file: cannot be read: "):
        settings_from(api_keys_file=str(tmp_path / path))


@pytest.mark.parametrize("keys", [",", " , ", f"{KEY} {OTHER}", f"{KEY}ü"])
def test_keys_of_the_environment_that_are_wrong_are_refused_unseen(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("MOBILENET_API_KEYS", keys)
    none = r"contains no key; leave it unset to require none$"
    with pytest.raises(OperatorError, match="^MOBILENET_API_KEYS: " + ("" if KEY in keys else none)) as caught:
        settings_from()
    assert KEY not in str(caught.value)


def test_metrics_cannot_be_protected_without_a_key(key_file: Path) -> None:
    with pytest.raises(ValidationError, match="needs a key"):
        Settings(protect_metrics=True)
    assert Settings(protect_metrics=True, api_keys_file=key_file).protect_metrics


def test_settings_do_not_show_keys_when_printed() -> None:
    assert KEY not in repr(Settings(api_keys=(KEY,)))
    assert KEY not in str(Settings(api_keys=(KEY,)))


def test_each_key_has_a_share_of_its_own(artifact: Artifact) -> None:
    def ask(connection: Wire, key: str, sent: int) -> None:
        connection.send(post(png(1), f"X-API-Key: {key}")[:sent])

    with (
        running_app(artifact, api_keys=f"{KEY}, {OTHER}", max_in_flight=4, max_client_share=0.5) as app,
        ExitStack() as stack,
    ):
        first, second, third, other = (stack.enter_context(wire(app.address)) for _ in range(4))
        ask(first, KEY, -10)
        ask(second, KEY, -10)
        app.wait_for_metric("mobilenet_in_flight", 2)
        ask(third, KEY, 10_000)
        ask(other, OTHER, 10_000)
        statuses = [answer.status for answer in (third.answer(), other.answer()) if answer is not None]
        assert statuses == [429, 200]
