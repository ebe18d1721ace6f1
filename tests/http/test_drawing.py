"""``/explain`` as a drawing: what it shows, and what it may cost others until it is drawn and fetched.

The fake's map of a class is its index.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.http import overlay
from service.model.artifact import Artifact
from service.serving.admission import BYTES_PER_UNIT
from tests.fakes import Gate
from tests.hostile.http.wire import Wire, post, wire
from tests.image.samples import encode, exif, noise
from tests.running import RunningApp, detail, png, running_app

DRAWING = {"Accept": "image/png"}


@pytest.fixture(scope="module")
def app(artifact: Artifact) -> Iterator[RunningApp]:
    with running_app(artifact) as running:
        yield running


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


@pytest.fixture
def held(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """``overlay.draw`` waits until it is open."""
    draw = overlay.draw

    def wait_and_draw(*given: Any, **others: Any) -> bytes:
        gate.wait()
        return draw(*given, **others)

    monkeypatch.setattr(overlay, "draw", wait_and_draw)
    return gate


@pytest.mark.parametrize("query", ["class=1,2", "top_k=2", "opacity=1.1", "opacity=-1", "opacity=x", "opacity=nan"])
def test_a_drawing_shows_one_class(app: RunningApp, query: str) -> None:
    assert detail(app.client.post(f"/explain?{query}", content=png(1), headers=DRAWING), 422)


def test_a_drawing_is_the_photo_under_the_map(app: RunningApp) -> None:
    answer = app.client.post("/explain?class=9&opacity=0.5", content=png(3), headers=DRAWING)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert int(answer.headers["content-length"]) == len(answer.content)
    stages = [entry.split(";dur=")[0] for entry in answer.headers["server-timing"].split(", ")]
    assert stages == ["read", "decode", "queue", "infer", "encode"]
    with opened(answer) as drawing:
        assert drawing.size == (224, 224)
        assert drawing.info["Description"].startswith("class 9, class 9: logit 0.0000, probability 0.0")
        pixels = np.asarray(drawing).astype(int)
    # The fake's map is one cell of 9: all of the crop has the ramp's last colour, by half.
    np.testing.assert_allclose(pixels[112, 112], np.array([252 + 3, 253, 191 + 1]) / 2, atol=2)
    assert pixels[5, 5].max() <= 3
    assert app.metric('mobilenet_requests_total{code="200",endpoint="explain"}') > 0


def test_the_strongest_class_is_the_one_that_is_drawn(app: RunningApp) -> None:
    with opened(app.client.post("/explain", content=png(6), headers=DRAWING)) as drawing:
        assert drawing.info["Description"].startswith("class 6, ")


def test_a_large_photo_is_drawn_reduced_upright_and_opaque(app: RunningApp) -> None:
    """Green above red as shown, stored on its side, transparent at its right end."""
    pixels = np.zeros((3000, 1500, 4), np.uint8)
    pixels[:1500, :, 1], pixels[1500:, :, 0] = 200, 200
    pixels[:, :1400, 3] = 255
    body = encode(np.ascontiguousarray(np.rot90(pixels)), "PNG", exif=exif(6))
    # The map of class 0 has no evidence.
    with opened(app.client.post("/explain?class=0", content=body, headers=DRAWING)) as drawing:
        assert drawing.size == (500, 1000)
        seen = np.asarray(drawing)
    assert [seen[y, 250].tolist() for y in (490, 510)] == [[0, 200, 0], [200, 0, 0]]
    assert [seen[y, x].tolist() for y, x in ((10, 250), (990, 250), (500, 495))] == [[0, 90, 0], [90, 0, 0], [114] * 3]


@pytest.mark.parametrize(("content", "status"), [(b"hello", 415), (png(3)[:150], 422), (b"", 400)])
def test_a_bad_photo_is_a_problem_and_counted_once(app: RunningApp, content: bytes, status: int) -> None:
    reason = {415: "unsupported_format", 422: "bad_image", 400: "bad_request"}[status]
    sample = f'mobilenet_rejected_total{{reason="{reason}"}}'
    before = app.metric(sample)
    assert detail(app.client.post("/explain", content=content, headers=DRAWING), status)
    assert app.metric(sample) == before + 1


def test_a_fault_while_drawing_is_ours_and_the_next_one_is_drawn(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(overlay, "draw", lambda *given, **others: 1 / 0)
        assert "division" not in detail(app.client.post("/explain", content=png(1), headers=DRAWING), 500)
    assert app.client.post("/explain", content=png(1), headers=DRAWING).status_code == 200


def test_the_deadline_holds_while_drawing_and_waiting(app: RunningApp, threads: ThreadPoolExecutor, held: Gate) -> None:
    headers = {**DRAWING, "X-Request-Timeout-Ms": "300"}
    late = [threads.submit(app.client.post, "/explain", content=png(n), headers=headers) for n in range(3)]
    answers = {detail(answer.result(), 504) for answer in late}
    assert answers == {"the deadline passed before the class map was drawn"}
    held.open()
    assert app.client.post("/explain", content=png(1), headers=DRAWING).status_code == 200


def test_nobody_else_waits_for_a_drawing(app: RunningApp, threads: ThreadPoolExecutor, held: Gate) -> None:
    drawing = threads.submit(app.client.post, "/explain", content=png(1), headers=DRAWING)
    assert held.entered.wait(20)
    for path in ("/explain", "/classify"):
        assert app.client.post(path, content=png(1)).status_code == 200
    assert not drawing.done()
    held.open()
    assert drawing.result().status_code == 200


def test_a_client_that_leaves_while_its_class_map_is_drawn_is_forgotten(app: RunningApp, held: Gate) -> None:
    before = app.metric("mobilenet_cancelled_total")
    with asked(app, png(1)):
        assert held.entered.wait(20)
    app.wait_for_metric("mobilenet_cancelled_total", before + 1)
    held.open()
    app.wait_for_metric("mobilenet_in_flight", 0)
    assert app.client.post("/explain", content=png(1), headers=DRAWING).status_code == 200


@contextmanager
def asked(app: RunningApp, body: bytes) -> Iterator[Wire]:
    """A connection that has asked for a drawing, and fetches little of it unasked."""
    with wire(app.address, receive_buffer=4096) as connection:
        connection.send(post(body, "Accept: image/png", path="/explain?opacity=0"))
        yield connection


def test_a_drawing_holds_its_place_until_it_is_fetched(artifact: Artifact) -> None:
    """In units of its photo's body, its preview and its PNG: memory in flight is never more than the limit says."""
    body = encode(noise(1024, 1024), "PNG")  # its drawing is larger than the buffers of sockets
    units = 1 + len(body) // BYTES_PER_UNIT + 4
    with running_app(artifact, max_in_flight=2 * units + 1) as app, asked(app, body) as first:
        assert first.said(20)
        assert app.metric("mobilenet_in_flight") == units
        with asked(app, body) as second:
            assert second.said(20)
            assert app.metric("mobilenet_in_flight") == 2 * units, "it is drawn, too"
            refused = app.client.post("/explain", content=png(1), headers=DRAWING)
            assert detail(refused, 503) == "the service is at its limit of images in flight"
            assert app.client.post("/explain", content=png(1)).status_code == 200
        assert first.status() == 200
        app.wait_for_metric("mobilenet_in_flight", 0)
        assert app.client.post("/explain", content=png(1), headers=DRAWING).status_code == 200
