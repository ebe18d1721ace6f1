"""Clients that are slow on purpose, against a server process whose own patience is short: each is let go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest

from tests.e2e.process import ServerProcess
from tests.hostile.http.conftest import changed, open_sockets, serving, settle, unharmed
from tests.hostile.http.content import FORM, part
from tests.hostile.http.framing import SOON, head
from tests.hostile.http.wire import PATIENCE_S, Address, Wire, chunk, get, post, wire
from tests.image.samples import encode
from tests.running import png

#: Patience in seconds, with a head and with a connection that is idle; and a small buffer for what is sent.
IMPATIENT = """
import importlib
import socket
import uvicorn
from service.http.server import connection

connection.HEAD_TIMEOUT_S = {head}
configure = uvicorn.Config.__init__
uvicorn.Config.__init__ = lambda *given, **named: configure(*given, **{{**named, "timeout_keep_alive": {idle}}})
serve = importlib.import_module("service.cli.serve")
listen = serve.listen

def listen_with_a_small_buffer(*given):
    listener = listen(*given)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listener

serve.listen = listen_with_a_small_buffer
"""


def impatient(tiny: list[str], *, head: float, idle: float) -> AbstractContextManager[ServerProcess]:
    program = changed(IMPATIENT.format(head=head, idle=idle))
    return serving(*tiny, "--max-body-bytes", "1000000", "--max-images", "1000", program=program)


@pytest.fixture(scope="module")
def with_heads(tiny: list[str]) -> Iterator[ServerProcess]:
    with impatient(tiny, head=0.3, idle=75) as running:
        yield running


@pytest.fixture(scope="module")
def with_idleness(tiny: list[str]) -> Iterator[ServerProcess]:
    with impatient(tiny, head=10, idle=0.6) as running:
        yield running


@pytest.fixture
def slow_head(with_heads: ServerProcess) -> Iterator[Address]:
    with unharmed(with_heads) as address:
        yield address


@pytest.fixture
def idler(with_idleness: ServerProcess) -> Iterator[Address]:
    with unharmed(with_idleness) as address:
        yield address


def drip(connection: Wire, data: Iterator[int]) -> bool:
    """Byte by byte until the server says something; False: it let all of it come."""
    return any(not connection.send(bytes((byte,))) or connection.said(within=0.01) for byte in data)


BODIES = {
    "with a length": (head("Content-Length: 200000", SOON), bytes(2000)),
    "in chunks": (head("Transfer-Encoding: chunked", SOON), chunk(b"a") * 500),
    "a form": (head("Content-Length: 200000", FORM, SOON), part(bytes(2000))),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_byte_by_byte_meets_its_deadline_and_the_connection_ends(slow_head: Address, kind: str) -> None:
    start, body = BODIES[kind]
    with wire(slow_head) as connection:
        rest = iter(body)
        connection.send(start)
        assert drip(connection, rest)
        assert connection.status() == 504
        assert drip(connection, rest), "what nobody reads any more may not go on for ever"
        assert connection.ends()


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_stops_half_way_meets_its_deadline_and_the_connection_ends(slow_head: Address, kind: str) -> None:
    start, body = BODIES[kind]
    with wire(slow_head) as connection:
        assert connection.ask(start + body[:1000]).status == 504
        assert connection.ends()


@pytest.mark.parametrize("complete", [0, 1, 3], ids=["first", "second", "fourth"])
def test_a_head_byte_by_byte_is_cut_off(slow_head: Address, complete: int) -> None:
    """Also when requests before it were answered: the clock starts anew with each head and not with each byte."""
    with wire(slow_head) as connection:
        for _ in range(complete):
            assert connection.ask(get("/livez")).status == 200
        assert drip(connection, iter(get("/livez", "X-Long: " + "a" * 5000)))
        assert connection.ends()


@pytest.mark.parametrize("sent", [b"G", b"GET /livez HTTP/1.1\r\n", post(png(1))[:40], b"\r\n"])
def test_a_head_that_stops_is_cut_off(slow_head: Address, sent: bytes) -> None:
    with wire(slow_head) as connection:
        connection.send(sent)
        assert connection.ends()


@pytest.mark.parametrize("answers", [0, 1, 2])
def test_an_idle_connection_is_closed(idler: Address, answers: int) -> None:
    with wire(idler) as connection:
        for _ in range(answers):
            assert connection.ask(get("/livez")).status == 200
        assert connection.ends()


def test_empty_lines_do_not_keep_a_connection(slow_head: Address) -> None:
    with wire(slow_head) as connection:
        assert connection.ask(get("/livez")).status == 200
        assert drip(connection, iter(b"\r\n" * 1000))
        assert connection.ends()


def test_a_body_that_goes_on_after_its_refusal_is_cut_off(slow_head: Address) -> None:
    with wire(slow_head) as connection:
        assert connection.ask(head("Content-Length: 1000001")).status == 413
        assert drip(connection, iter(bytes(2000)))
        assert connection.ends()


@pytest.mark.parametrize("lines", [(), ("Connection: close",)], ids=["kept open", "to be closed"])
def test_a_client_that_sends_on_comes_to_read_why_it_was_refused(slow_head: Address, lines: tuple[str, ...]) -> None:
    with wire(slow_head) as connection:
        connection.send(head("Content-Length: 8000000", *lines))
        for _ in range(80):
            assert connection.send(bytes(100_000)), "the server has reset the connection"
        assert connection.status() == 413
        if lines:
            connection.send(get("/livez"))
            assert connection.ends(), "it was to be the last"


def test_garbage_in_a_body_that_was_refused_gets_no_second_answer(slow_head: Address) -> None:
    """It would be taken for the answer to the next request."""
    with wire(slow_head) as connection:
        assert connection.ask(head("Transfer-Encoding: chunked") + chunk(bytes(1_000_001))).status == 413
        connection.send(b"no chunk\r\n")
        assert connection.ends()


def embeddings(images: int, *headers: str) -> bytes:
    """A request whose answer has 13 KB an image."""
    body = b"".join([part(png(1))] * images) + b"--x--\r\n"
    return post(body, FORM, *headers, path="/embed")


def drawing() -> bytes:
    """A request whose answer has 3 MB."""
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    return post(encode(pixels, "JPEG", quality=50), "Accept: image/png", path="/explain?opacity=0")


@pytest.mark.parametrize(
    ("requests", "fetched"),
    [
        (embeddings(100), 0),
        (embeddings(100), 1_000_000),
        (embeddings(100, "Connection: close"), 0),
        (embeddings(100) + get("/livez"), 0),
        (drawing(), 0),
        # Too little for the server to notice while it writes, and more than its socket takes.
        (embeddings(4), 0),
        (embeddings(4, "Connection: close"), 0),
    ],
    ids=[
        *("kept open", "begun to fetch", "to be closed", "with a request behind it", "a drawing"),
        *("kilobytes, kept open", "kilobytes, to be closed"),
    ],
)
def test_what_nobody_fetches_does_not_hold_its_connection(
    idler: Address, with_idleness: ServerProcess, requests: bytes, fetched: int
) -> None:
    before = open_sockets(with_idleness)
    with wire(idler, receive_buffer=4096) as connection:
        connection.send(requests)
        assert connection.said(within=PATIENCE_S)
        connection.take(fetched)
        assert open_sockets(with_idleness) > before
        settle(lambda: open_sockets(with_idleness) == before)
