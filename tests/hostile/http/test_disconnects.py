"""Clients that leave, at every point of a request and of its answer: nothing stays in flight, nothing is in the log."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hostile.conftest import RecordFigure
from tests.hostile.http.content import form, part
from tests.hostile.http.framing import head
from tests.hostile.http.wire import Address, Wire, chunk, get, post, wire
from tests.running import png

IMAGE = png(1)
REQUESTS = {
    "one image": post(IMAGE),
    "in chunks": head("Transfer-Encoding: chunked") + chunk(IMAGE) + b"0\r\n\r\n",
    "a form": form(*[part(png(index)) for index in range(4)]),
    "expecting": post(IMAGE, "Expect: 100-continue"),
    "page": get("/docs/assets/swagger-ui-bundle.js"),
    "pipelined": post(IMAGE) * 3 + get("/metrics"),
}


def leave(connection: Wire, how: str) -> None:
    if how == "half":
        connection.end_sending()
        connection.ends()
    if how == "reset":
        connection.reset()
    else:
        connection.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_a_client_that_leaves_at_any_byte(address: Address, kind: str, how: str) -> None:
    request = REQUESTS[kind]
    for sent in (0, 1, *range(2, len(request), max(1, len(request) // 40)), len(request) - 1, len(request)):
        connection = Wire(address)
        connection.send(request[:sent])
        leave(connection, how)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_in_the_middle_of_an_answer(address: Address, how: str) -> None:
    for taken in (1, 100, 1000, 50_000):
        connection = Wire(address, receive_buffer=2048)
        connection.send(get("/docs/assets/swagger-ui-bundle.js") * 3)
        connection.take(taken)
        leave(connection, how)


def leave_about_when_answered(address: Address, times: int) -> None:
    """Clients that leave from right after their last byte to right after their answer has come, on four threads."""

    def run(seed: int) -> None:
        request = REQUESTS["a form" if seed % 2 else "one image"]
        with wire(address) as patient:
            patient.send(request)
            patient.said(within=30)
        for index in range(times):
            connection = Wire(address)
            connection.send(request)
            connection.said(within=(index % 50) / 50 * 0.01)
            leave(connection, ("close", "reset", "half")[index % 3])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))


def test_a_client_that_leaves_as_its_answer_is_ready(address: Address) -> None:
    leave_about_when_answered(address, times=75)


@pytest.mark.torture
def test_thousands_of_clients_leave_as_their_answers_are_ready(address: Address, record_figure: RecordFigure) -> None:
    leave_about_when_answered(address, times=2500)
    record_figure("clients that left about when they were answered", "10000, tracebacks 0, requests left in flight 0")
