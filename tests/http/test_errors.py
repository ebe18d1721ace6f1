"""Every refusal: its status, its problem document, and that it says nothing it should not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.model.artifact import Artifact
from tests.fakes import FakeRuntime, Gate
from tests.hostile.http.wire import post, wire
from tests.running import RunningApp, detail, png, problem, running_app


def form(body: bytes, boundary: str = "x") -> dict[str, Any]:
    return {"content": body, "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"}}


PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


MALFORMED: dict[str, dict[str, Any]] = {
    "empty": {"content": b""},
    "no file part": form(b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nabc\r\n--x--\r\n'),
    "empty form": form(b""),
    "form without boundary lines": form(b"no boundary in here"),
    "unfinished form": form(PART + png(1)),
    "empty boundary": form(PART + png(1) + b"\r\n--x--\r\n", boundary=""),
    "long boundary": form(PART + png(1) + b"\r\n--x--\r\n", boundary="y" * 71),
    "huge part header": form(b"--x\r\nX-Long: " + b"a" * 5000 + b"\r\n\r\n--x--\r\n"),
    "no boundary parameter": {"content": png(1), "headers": {"Content-Type": "multipart/form-data"}},
    "multipart/mixed": {"content": png(1), "headers": {"Content-Type": "multipart/mixed; boundary=x"}},
    "too many images": {"files": [("file", (str(index), png(index))) for index in range(5)]},  # max_images is 4
    "too many other parts": {"files": [("other", (str(index), b"x")) for index in range(65)]},
}


@pytest.mark.parametrize("request_arguments", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_400(app: RunningApp, request_arguments: dict[str, Any]) -> None:
    problem(app.client.post("/classify", **request_arguments), 400)


def test_a_declared_length_over_the_limit_is_refused_unread(app: RunningApp) -> None:
    with wire(app.address) as connection:
        connection.send(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 200001\r\n\r\n")
        assert connection.status() == 413


def test_a_body_without_a_length_is_cut_off_at_the_limit(app: RunningApp) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 10_000_000:
            sent += 10_000
            yield b"x" * 10_000

    try:
        problem(app.client.post("/classify", content=endless()), 413)
    except (httpx.WriteError, httpx.RemoteProtocolError):
        assert sent > 200_000, "only a client that goes on sending may lose its connection"


def test_an_image_over_the_pixel_limit_is_413(app: RunningApp) -> None:
    problem(app.client.post("/classify", content=png(1, size=1001)), 413)
    assert app.client.post("/classify", content=png(1, size=1000)).status_code == 200


@pytest.mark.parametrize("content", [b"hello", b"%PDF-1.7", b"<svg/>", b"\x00" * 1000, b"PK\x03\x04" + b"\x00" * 50])
def test_other_formats_are_415(app: RunningApp, content: bytes) -> None:
    problem(app.client.post("/classify", content=content, headers={"Content-Type": "image/jpeg"}), 415)


def test_a_truncated_image_is_422(app: RunningApp) -> None:
    problem(app.client.post("/classify", content=png(1)[:-40]), 422)


@pytest.mark.parametrize(
    "query", ["top_k=0", "top_k=11", "top_k=x", "top_k=-1", "top_k=1e3", "top_k=99999999999999999999"]
)
def test_parameters_out_of_range_are_422(app: RunningApp, query: str) -> None:
    assert "top_k" in detail(app.client.post(f"/classify?{query}", content=png(1)), 422)


@pytest.mark.parametrize("value", ["0", "-5", "soon", "1.5", "", "9" * 30, "²"])
def test_a_timeout_that_is_no_number_of_milliseconds_is_422(app: RunningApp, value: str) -> None:
    headers = [(b"X-Request-Timeout-Ms", value.encode("latin-1"))]
    problem(app.client.post("/classify", content=png(1), headers=headers), 422)


def test_unknown_paths_and_methods(app: RunningApp) -> None:
    problem(app.client.get("/nothing"), 404)
    problem(app.client.post("/classify/", content=png(1)), 404)
    refused = app.client.get("/classify")
    problem(refused, 405)
    assert refused.headers["allow"] == "POST, OPTIONS"


def test_a_header_block_over_16_kb_is_431(app: RunningApp) -> None:
    problem(app.client.get("/livez", headers={"X-Big": "a" * 17_000}), 431)
    assert app.client.get("/livez", headers={"X-Big": "a" * 15_000}).status_code == 200


def test_a_request_id_comes_back_or_is_made(app: RunningApp) -> None:
    assert app.client.get("/livez", headers={"X-Request-Id": "trace-42"}).headers["x-request-id"] == "trace-42"
    first, second = (app.client.get("/livez").headers["x-request-id"] for _ in range(2))
    assert first != second
    made = app.client.get("/livez", headers={"X-Request-Id": 'a" b;<script>'}).headers["x-request-id"]
    assert made.isalnum()


def fails(*arguments: object) -> None:
    raise RuntimeError("secret path /service/x.py")


def test_a_deadline_that_passes_is_504(artifact: Artifact, gate: Gate) -> None:
    with running_app(artifact, FakeRuntime(before=gate)) as app:
        problem(app.client.post("/classify", content=png(1), headers={"X-Request-Timeout-Ms": "50"}), 504)
        gate.open()
        assert app.metric('mobilenet_images_total{format="png",model="tiny",outcome="deadline",version="1"}') == 1


def test_a_body_that_never_ends_meets_the_deadline(artifact: Artifact) -> None:
    with running_app(artifact, request_timeout_ms=100) as app, wire(app.address) as connection:
        connection.send(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert connection.status() == 504


def test_over_the_limit_is_503_at_once_with_retry_after(
    artifact: Artifact, threads: ThreadPoolExecutor, gate: Gate
) -> None:
    with running_app(artifact, FakeRuntime(before=gate), max_in_flight=1) as app:
        first = threads.submit(app.client.post, "/classify", content=png(1))
        assert gate.entered.wait(30)
        refused = app.client.post("/classify", content=png(2))
        problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        gate.open()
        assert first.result().status_code == 200
        assert app.client.post("/classify", content=png(2)).status_code == 200
        assert app.metric('mobilenet_rejected_total{reason="overloaded"}') == 1
        assert app.metric("mobilenet_in_flight") == 0


def test_draining_turns_readiness_off_and_still_answers(
    artifact: Artifact, threads: ThreadPoolExecutor, gate: Gate
) -> None:
    with running_app(artifact, FakeRuntime(before=gate)) as app, pytest.MonkeyPatch.context() as patch:
        first = threads.submit(app.client.post, "/classify", content=png(1))
        assert gate.entered.wait(30)
        assert app.metric("mobilenet_ready") == 1
        patch.setattr(app.lifecycle, "draining", True)  # the server goes on listening
        assert app.client.get("/readyz").json() == {"status": "draining"}
        assert app.client.get("/readyz").status_code == 503
        assert app.client.get("/livez").status_code == 200
        assert app.metric("mobilenet_ready") == 0
        gate.open()
        assert first.result().status_code == 200
        late = app.client.post("/classify", content=png(2))
        assert late.status_code == 200
        assert late.headers["connection"] == "close"


def test_who_is_replaced_sends_clients_away_and_stays_ready_to_the_end(artifact: Artifact) -> None:
    """The service goes on in another process."""
    with running_app(artifact) as app, pytest.MonkeyPatch.context() as patch:
        assert "connection" not in app.client.post("/classify", content=png(1)).headers
        patch.setattr(app.lifecycle, "replaced", True)
        assert app.client.post("/classify", content=png(2)).headers["connection"] == "close"
        patch.setattr(app.lifecycle, "draining", True)
        ready = app.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ok"})


def test_work_that_outlasts_the_drain_is_told_so(artifact: Artifact, threads: ThreadPoolExecutor, gate: Gate) -> None:
    with running_app(artifact, FakeRuntime(before=gate), drain_timeout_ms=1000) as app:
        first = threads.submit(app.client.post, "/classify", content=png(1))
        assert gate.entered.wait(30)
        app.stop()
        problem(first.result(), 503)
        gate.open()


def test_a_closed_engine_is_503(artifact: Artifact) -> None:
    with running_app(artifact) as app:
        asyncio.run(app.served.engine.aclose())
        refused = app.client.post("/classify", content=png(2))
        problem(refused, 503)
        assert refused.headers["retry-after"] == "1"


def test_before_the_model_is_loaded_it_is_alive_but_not_ready(artifact: Artifact) -> None:
    with running_app(artifact, load=False) as app:
        assert app.client.get("/livez").json() == {"status": "ok"}
        ready = app.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "starting"})
        problem(app.client.post("/classify", content=png(1)), 503)


def test_a_failing_model_is_500_and_not_ready(artifact: Artifact) -> None:
    runtime = FakeRuntime()
    with running_app(artifact, runtime) as app:
        assert app.client.get("/readyz").status_code == 200
        runtime.before = fails
        problem(app.client.post("/classify", content=png(1)), 500)
        assert app.client.get("/readyz").status_code == 503
        runtime.before = lambda images: None
        assert app.client.get("/readyz").status_code == 200


def test_a_bug_in_the_service_is_a_clean_500(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_app(artifact) as app:
        monkeypatch.setattr("service.http.encode.classify", fails)
        problem(app.client.post("/classify", content=png(1)), 500)
        assert app.metric('mobilenet_requests_total{code="500",endpoint="classify"}') == 1


def test_a_client_that_leaves_frees_its_place_and_costs_no_inference(
    artifact: Artifact, threads: ThreadPoolExecutor, gate: Gate
) -> None:
    with running_app(artifact, FakeRuntime(before=gate), max_in_flight=2) as app:
        first = threads.submit(app.client.post, "/classify", content=png(1))
        assert gate.entered.wait(30)
        with wire(app.address) as connection:
            connection.send(post(png(2)))
            app.wait_for_metric('mobilenet_queue_depth{model="tiny",version="1"}', 1)
        app.wait_for_metric("mobilenet_cancelled_total", 1)
        assert app.metric("mobilenet_in_flight") == 1
        gate.open()
        assert first.result().status_code == 200
        assert app.client.post("/classify", content=png(3)).status_code == 200
        assert app.runtime.batches == [1, 1], "the image of the client that left must not have been inferred"
