"""Health, metrics, the model card, the OpenAPI document and its page."""

from __future__ import annotations

import logging
import re

import pytest

from service.config import Settings
from service.http.endpoints import INFERENCE_PATHS, OF_ONE_MODEL
from service.http.operations import PROBES
from service.metrics import _SECONDS, Metrics
from service.model.artifact import Artifact
from tests.hostile.http.wire import get, wire
from tests.running import RunningApp, png, problem, running_app


def test_health(app: RunningApp) -> None:
    assert app.client.get("/livez").json() == {"status": "ok"}
    assert app.client.get("/readyz").json() == {"status": "ok"}


@pytest.mark.parametrize("path", [path for path in PROBES if path != "/livez"])
def test_readiness_has_several_names(artifact: Artifact, path: str) -> None:
    word = "Healthy" if path == "/ping" else "ok"
    with running_app(artifact, load=False, api_keys="secret") as app:
        answer = app.client.get(path)
        assert (answer.status_code, answer.json()) == (503, {"status": "starting"})
        assert app.client.get("/livez").status_code == 200
    with running_app(artifact, api_keys="secret") as app:
        answer = app.client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": word})
        assert app.client.head(path).status_code == 200
        assert app.client.options(path).headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("log_probes", [False, True])
def test_the_access_log_leaves_out_successful_probes(
    artifact: Artifact, caplog: pytest.LogCaptureFixture, log_probes: bool
) -> None:
    with caplog.at_level(logging.INFO):
        for load in (True, False):
            with running_app(artifact, load=load, log_probes=log_probes) as app:
                for path in (*PROBES, "/metrics", "/models", "/nothing"):
                    app.client.get(path)
                app.client.post("/metrics")
    lines = [record.fields for record in caplog.records if record.name == "service.access"]  # type: ignore[attr-defined]
    logged = [(line["path"], line["status"]) for line in lines]
    successes = [line for line in logged if line[0] in (*PROBES, "/metrics") and line[1] == 200]
    assert len(successes) == (2 + len(PROBES) + 1 if log_probes else 0)
    others = {("/models", 200), ("/nothing", 404), ("/metrics", 405)}
    assert set(logged) - set(successes) == others | {(path, 503) for path in PROBES if path != "/livez"}


def test_options_name_the_methods_of_a_path(artifact: Artifact) -> None:
    with running_app(artifact, api_keys="secret") as app:
        for path, allow in (
            ("/", "GET, HEAD, OPTIONS"),
            ("/readyz", "GET, HEAD, OPTIONS"),
            ("/docs", "GET, HEAD, OPTIONS"),
        ):
            answer = app.client.options(path)
            assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allow, b"")
        problem(app.client.options("/classify"), 401)
        headers = {"X-API-Key": "secret"}
        answer = app.client.options("/classify", headers=headers)
        assert (answer.status_code, answer.headers["allow"]) == (204, "POST, OPTIONS")
        problem(app.client.options("/nothing", headers=headers), 404)
        with wire(app.address) as connection:
            connection.send(get("*", method="OPTIONS"))
            everything = connection.answer()
    assert everything is not None
    assert (everything.status, everything.headers["allow"]) == (204, "GET, HEAD, POST, OPTIONS")


def test_metrics_count_requests_stages_images_and_batches(artifact: Artifact) -> None:
    model = 'model="tiny"'
    expected = {
        'mobilenet_requests_total{code="200",endpoint="classify"}': 1,
        'mobilenet_requests_total{code="200",endpoint="embed"}': 1,
        'mobilenet_requests_total{code="404",endpoint="other"}': 1,
        f'mobilenet_images_total{{format="png",{model},outcome="ok",version="1"}}': 2,
        f'mobilenet_images_total{{format="unknown",{model},outcome="unsupported_format",version="1"}}': 1,
        'mobilenet_rejected_total{reason="unsupported_format"}': 1,
        'mobilenet_rejected_total{reason="headers_too_large"}': 1,
        'mobilenet_request_duration_seconds_count{endpoint="classify"}': 1,
        f'mobilenet_batch_size_sum{{{model},version="1"}}': 2,
        "mobilenet_in_flight": 0,
        f'mobilenet_queue_depth{{{model},version="1"}}': 0,
        "mobilenet_ready": 1,
    }
    for stage in ("read", "decode", "queue", "infer", "encode"):
        expected[f'mobilenet_stage_duration_seconds_count{{{model},stage="{stage}",version="1"}}'] = 2
    with running_app(artifact) as app:
        app.client.post("/classify", content=png(1))
        app.client.post("/embed", files=[("file", png(1)), ("file", b"no image")])
        app.client.get("/no/such/path")
        app.client.get("/livez", headers={"X-Big": "a" * 17_000})
        assert {sample: app.metric(sample) for sample in expected} == expected


def test_every_metric_name_has_the_prefix_and_base_units() -> None:
    for family in Metrics().registry.collect():
        assert re.match(r"mobilenet_|process_|python_", family.name), family.name
        assert not re.search(r"_(ms|milliseconds|kb|mb)(_|$)", family.name), family.name


def test_models_shows_what_is_served(app: RunningApp, artifact: Artifact) -> None:
    (card,) = app.client.get("/models").json()["models"]
    assert (card["name"], card["version"], card["weights_sha256"]) == ("tiny", "1", artifact.digest)
    assert card["preprocessing"]["resize_size"] == 256
    assert card["runtime"]["name"] == "fake"
    assert card["runtime"]["batch_cost_seconds"]["1"] > 0
    assert card["ready"] is True


def test_the_openapi_document_declares_requests_and_refusals(app: RunningApp) -> None:
    document = app.client.get("/openapi.json").json()
    inference = [prefix + path for prefix in ("", OF_ONE_MODEL) for path in INFERENCE_PATHS]
    for path in inference:
        operation = document["paths"][path]["post"]
        assert set(operation["requestBody"]["content"]) >= {"multipart/form-data", "image/jpeg"}
        assert set(operation["responses"]) - ({"412"} if "/classify" not in path else set()) == {
            "200", "400", "401", "404", "413", "415", "422", "429", "431", "500", "503", "504"
        }  # fmt: skip
        assert "application/problem+json" in operation["responses"]["422"]["content"]
        assert "application/json" not in operation["responses"]["422"]["content"]
    assert "Problem" in document["components"]["schemas"]
    others = {"/livez", "/readyz", "/metrics", "/models", f"{OF_ONE_MODEL}/readyz"}
    assert set(document["paths"]) == {*inference, *others}


def test_generated_clients_get_names_that_say_what_they_do(app: RunningApp) -> None:
    document = app.client.get("/openapi.json").json()
    names = {operation["operationId"] for item in document["paths"].values() for operation in item.values()}
    inference = {"classify", "embed", "explain"}
    of_one_model = {f"{name}_with_model" for name in inference} | {"check_model_ready"}
    assert names == {*inference, *of_one_model, "check_live", "check_ready", "get_metrics", "list_models"}
    assert document["servers"] == [{"url": "."}], "relative to the document, so right behind a prefix"


def test_times_of_any_request_have_a_bucket() -> None:
    longest = next(rule.le for rule in Settings.model_fields["request_timeout_ms"].metadata if hasattr(rule, "le"))
    assert max(_SECONDS) >= longest / 1e3


def test_the_docs_page_needs_nothing_from_elsewhere(app: RunningApp) -> None:
    page = app.client.get("/docs").text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) >= 3
    for address in addresses:
        assert not address.startswith(("http", "//")), address
        assert app.client.get(f"/{address}").status_code == 200
    assert "https://" not in page
