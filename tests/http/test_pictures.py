"""``/explain`` as a picture: what it shows, and what it may cost others until it is drawn and fetched.

The fake's map of a class is its index.
"""

from __future__ import annotations

import io
import socket
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service import overlay
from service.artifact import Artifact
from service.http import picture
from service.image import upright
from tests.running import RunningApp, detail, png, running_app
from tests.waiting import until

PICTURE = {"Accept": "image/png"}

soon = partial(until, timeout=20, every=0.01)


@pytest.fixture(scope="module")
def app(artifact: Artifact) -> Iterator[RunningApp]:
    with running_app(artifact) as running:
        yield running


def noisy(width: int = 1500, height: int = 1200) -> bytes:
    """A photo whose picture is larger than sockets' buffers."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    pixels[0, 0] = (3, 0, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


class HeldDrawing:
    """``overlay.draw``, waiting until ``release`` is set."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()
        self._draw = overlay.draw

    def __call__(self, *given: Any, **others: Any) -> bytes:
        self.entered.set()
        self.release.wait(20)
        return self._draw(*given, **others)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldDrawing:
    drawing = HeldDrawing()
    monkeypatch.setattr(overlay, "draw", drawing)
    return drawing


@pytest.mark.parametrize("query", ["class=1,2", "top_k=2", "opacity=1.1", "opacity=-1", "opacity=x", "opacity=nan"])
def test_a_picture_shows_one_class(app: RunningApp, query: str) -> None:
    assert detail(app.client.post(f"/explain?{query}", content=png(1), headers=PICTURE), 422)


def test_a_picture_is_the_photo_under_the_map(app: RunningApp) -> None:
    answer = app.client.post("/explain?class=9&opacity=0.5", content=png(3), headers=PICTURE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert int(answer.headers["content-length"]) == len(answer.content)
    stages = [entry.split(";dur=")[0] for entry in answer.headers["server-timing"].split(", ")]
    assert stages == ["read", "decode", "queue", "infer", "encode"]
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (224, 224)
        assert picture.info["Description"].startswith("class 9, class 9: logit 0.0000, probability 0.0")
        pixels = np.asarray(picture).astype(int)
    # The fake's map is one cell of 9: all of the crop has the ramp's last colour, by half.
    np.testing.assert_allclose(pixels[112, 112], np.array([252 + 3, 253, 191 + 1]) / 2, atol=2)
    assert pixels[5, 5].max() <= 3
    assert app.metric('mobilenet_requests_total{code="200",endpoint="explain"}') > 0


def test_the_strongest_class_is_the_one_that_a_picture_shows(app: RunningApp) -> None:
    answer = app.client.post("/explain", content=png(6), headers=PICTURE)
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.info["Description"].startswith("class 6, ")


@pytest.mark.parametrize(("content", "status"), [(b"hello", 415), (png(3)[:150], 422), (b"", 400)])
def test_a_bad_photo_is_a_problem_and_counted_once(app: RunningApp, content: bytes, status: int) -> None:
    reason = {415: "unsupported_format", 422: "bad_image", 400: "bad_request"}[status]
    sample = f'mobilenet_rejected_total{{reason="{reason}"}}'
    before = app.metric(sample)
    assert detail(app.client.post("/explain", content=content, headers=PICTURE), status)
    assert app.metric(sample) == before + 1


def test_a_fault_while_drawing_is_ours_and_the_next_one_is_drawn(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(overlay, "draw", lambda *given, **others: 1 / 0)
        assert "division" not in detail(app.client.post("/explain", content=png(1), headers=PICTURE), 500)
    assert app.client.post("/explain", content=png(1), headers=PICTURE).status_code == 200


def test_the_deadline_holds_while_drawing_and_waiting(app: RunningApp, held: HeldDrawing) -> None:
    headers = {**PICTURE, "X-Request-Timeout-Ms": "300"}
    with ThreadPoolExecutor(3) as threads:
        late = [threads.submit(app.client.post, "/explain", content=png(n), headers=headers) for n in range(3)]
        assert {detail(answer.result(), 504) for answer in late} <= {
            "the deadline passed before the picture was drawn",
            "the deadline passed before the image was inferred",
        }
    held.release.set()
    assert app.client.post("/explain", content=png(1), headers=PICTURE).status_code == 200


def test_the_deadline_holds_while_waiting_for_others(app: RunningApp, held: HeldDrawing) -> None:
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(app.client.post, "/explain", content=png(1), headers=PICTURE)
        assert held.entered.wait(20)
        # Answered while the one before it is still being drawn.
        late = app.client.post("/explain", content=png(2), headers={**PICTURE, "X-Request-Timeout-Ms": "200"})
        assert detail(late, 504) == "the deadline passed before the picture was drawn"
        assert not first.done()
        held.release.set()
        assert first.result().status_code == 200


def test_no_photo_is_kept_beside_the_one_that_is_drawn(
    app: RunningApp, held: HeldDrawing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor afterwards: who has left, or whose deadline has passed, leaves the thread at its work and its turn taken."""
    photos: list[weakref.ref[Image.Image]] = []

    def watched(*given: Any) -> Image.Image:
        photo = upright(*given)
        photos.append(weakref.ref(photo))
        return photo

    def alive() -> int:
        return sum(photo() is not None for photo in photos)

    monkeypatch.setattr(picture, "upright", watched)
    headers = {**PICTURE, "X-Request-Timeout-Ms": "200"}
    for number in range(4):
        assert app.client.post("/explain", content=png(number), headers=headers).status_code == 504
    assert held.entered.is_set()
    assert alive() == 1
    held.release.set()
    soon(lambda: alive() == 0, what="the last photo is gone")


def test_only_so_many_wait_for_a_picture_and_others_do_not_notice(app: RunningApp, held: HeldDrawing) -> None:
    with ThreadPoolExecutor(12) as threads:
        asked = [threads.submit(app.client.post, "/explain", content=png(n), headers=PICTURE) for n in range(12)]
        soon(lambda: sum(answer.done() for answer in asked) == 3, what="three wait, or were refused")
        assert app.client.post("/explain", content=png(1)).status_code == 200
        assert app.client.post("/classify", content=png(1)).status_code == 200
        held.release.set()
        answers = [answer.result() for answer in asked]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == 3
    for answer in refused:
        assert detail(answer, 503) == "too many pictures are waiting to be drawn"
        assert answer.headers["retry-after"] == "1"


def fetch_slowly(app: RunningApp, body: bytes) -> socket.socket:
    """A connection that has asked for a picture and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((app.host, app.port))
    head = f"POST /explain HTTP/1.1\r\nHost: x\r\nAccept: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_a_picture_holds_its_place_until_it_is_fetched(artifact: Artifact) -> None:
    """Its bytes count as those of a body do, however slowly they are read; nobody else waits for them."""
    body = noisy()
    with running_app(artifact) as app, fetch_slowly(app, body) as connection:
        connection.settimeout(20)
        assert connection.recv(12) == b"HTTP/1.1 200"
        units = app.metric("mobilenet_in_flight")
        assert units >= 1 + len(body) // (2 * 2**20)
        assert app.client.post("/explain", content=png(1), headers=PICTURE).status_code == 200
        while connection.recv(1 << 20).find(b"IEND") < 0:
            pass
        soon(lambda: app.metric("mobilenet_in_flight") == 0, what="nothing is in flight")


def test_pictures_that_are_being_fetched_may_hold_a_quarter_of_the_limit(artifact: Artifact) -> None:
    """The next one is refused before it is drawn; what is no picture is not."""
    with running_app(artifact, max_in_flight=16) as app, fetch_slowly(app, noisy()) as connection:
        connection.settimeout(20)
        assert connection.recv(12) == b"HTTP/1.1 200"
        refused = app.client.post("/explain", content=png(1), headers=PICTURE)
        assert detail(refused, 503) == "too many pictures are being fetched"
        assert app.client.post("/explain", content=png(1)).status_code == 200
        while connection.recv(1 << 20).find(b"IEND") < 0:
            pass
        soon(lambda: app.metric("mobilenet_in_flight") == 0, what="nothing is in flight")
        assert app.client.post("/explain", content=png(1), headers=PICTURE).status_code == 200


def test_who_fetches_too_slowly_is_let_go(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.picture._LEAST_BYTES_PER_S", 1e9)
    with running_app(artifact, request_timeout_ms=700) as app, fetch_slowly(app, noisy()) as connection:
        connection.settimeout(20)
        soon(lambda: app.metric("mobilenet_in_flight") > 0, what="it holds its place")
        soon(lambda: app.metric("mobilenet_in_flight") == 0, what="nothing is in flight")
        received = 0
        while piece := connection.recv(1 << 20):
            received += len(piece)
        assert 0 < received < 4_000_000, "cut off"
        assert app.client.post("/explain", content=png(1), headers=PICTURE).status_code == 200


def test_a_client_that_leaves_while_its_picture_is_drawn_is_forgotten(app: RunningApp, held: HeldDrawing) -> None:
    before = app.metric("mobilenet_cancelled_total")
    with fetch_slowly(app, png(1)):
        assert held.entered.wait(20)
    soon(lambda: app.metric("mobilenet_cancelled_total") == before + 1, what="it is counted as gone")
    held.release.set()
    soon(lambda: app.metric("mobilenet_in_flight") == 0, what="nothing is in flight")
    assert app.client.post("/explain", content=png(1), headers=PICTURE).status_code == 200
