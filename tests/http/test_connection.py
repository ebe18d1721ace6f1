"""How long a connection lasts: after a refusal that did not ask for the body, and while it is idle."""

from __future__ import annotations

import time

import pytest

from service.model.artifact import Artifact
from tests.hostile.http.wire import get, post, wire
from tests.running import RunningApp, png, running_app

EXPECT = "Expect: 100-continue"
LIMIT = 100_000


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(bytes(LIMIT + 1), EXPECT), 413),
        (post(png(1), EXPECT, path="/nothing"), 404),
        (post(png(1), EXPECT, path="/readyz"), 405),
        (post(png(1), EXPECT, path="/classify?top_k=x"), 422),
        (post(png(1), EXPECT, "X-Request-Timeout-Ms: x"), 422),
        (post(png(1), EXPECT, "Content-Encoding: br"), 415),
        (post(png(1), EXPECT, "X-Big: " + "a" * 17_000), 431),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_an_answer_that_did_not_ask_for_the_body_is_the_last(artifact: Artifact, request_: bytes, status: int) -> None:
    """Its client may send the body or not; only without the connection neither can take the other's bytes wrongly."""
    head, _, body = request_.partition(b"\r\n\r\n")
    with running_app(artifact, max_body_bytes=LIMIT) as app:
        for sends_the_body in (False, True):
            with wire(app.address) as connection:
                answer = connection.ask(head + b"\r\n\r\n")
                assert (answer.status, answer.headers["connection"]) == (status, "close")
                if sends_the_body:
                    connection.send(body)
                connection.end_sending()
                assert connection.ends()


def test_a_body_that_was_asked_for_leaves_the_connection_open(app: RunningApp) -> None:
    head, _, body = post(png(1), EXPECT).partition(b"\r\n\r\n")
    with wire(app.address) as connection:
        for _ in range(3):
            connection.send(head + b"\r\n\r\n")
            assert connection.receive(), "100 Continue"
            answer = connection.ask(body)
            assert answer.status == 200
            assert "connection" not in answer.headers


def test_a_body_that_came_along_leaves_it_open_as_well(app: RunningApp) -> None:
    with wire(app.address) as connection:
        connection.send(post(png(1), EXPECT, path="/nothing") + get("/livez"))
        statuses = [answer.status for answer in (connection.answer(), connection.answer()) if answer is not None]
        assert statuses == [404, 200]


def test_an_idle_connection_is_closed_when_the_setting_says(artifact: Artifact) -> None:
    with running_app(artifact, keep_alive_timeout=1) as app, wire(app.address) as connection:
        connection.ask(get("/livez"))
        began = time.monotonic()
        assert connection.ends()
        assert 0.5 < time.monotonic() - began < 20
