"""Health, metrics, the model card, the OpenAPI document and its page."""

from __future__ import annotations

import re

from service.http.endpoints import INFERENCE_PATHS
from service.metrics import Metrics
from service.model.artifact import Artifact
from tests.running import RunningApp, png, running_app


def test_health(app: RunningApp) -> None:
    assert app.client.get("/livez").json() == {"status": "ok"}
    assert app.client.get("/readyz").json() == {"status": "ok"}


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
    for path in INFERENCE_PATHS:
        operation = document["paths"][path]["post"]
        assert set(operation["requestBody"]["content"]) >= {"multipart/form-data", "image/jpeg"}
        assert set(operation["responses"]) == {
            "200", "400", "401", "413", "415", "422", "429", "431", "500", "503", "504"
        }  # fmt: skip
        assert "application/problem+json" in operation["responses"]["422"]["content"]
        assert "application/json" not in operation["responses"]["422"]["content"]
    assert "Problem" in document["components"]["schemas"]
    assert set(document["paths"]) == {"/classify", "/embed", "/explain", "/livez", "/readyz", "/metrics", "/models"}


def test_the_docs_page_needs_nothing_from_elsewhere(app: RunningApp) -> None:
    page = app.client.get("/docs").text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) >= 3
    for address in addresses:
        assert not address.startswith(("http", "//")), address
        assert app.client.get(f"/{address}").status_code == 200
    assert "https://" not in page
