"""Memory and connections: what a client sends without end is not kept, and how many connect does not matter."""

from __future__ import annotations

import itertools
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.process import ServerProcess, server
from tests.hostile.http.conftest import (
    Address,
    assert_answers,
    assert_unharmed,
    complaints,
    open_sockets,
    resident_mib,
    settle,
)
from tests.hostile.http.framing import head
from tests.hostile.http.wire import Wire, chunk, get, post, wire
from tests.running import png

pytestmark = pytest.mark.slow

MIB = 2**20
#: Sent at most, and what the process may grow meanwhile: pieces of a quarter of a megabyte, the allocator's slack.
SENT_MIB = 64
GROWTH_MIB = 24

ENDLESS = {
    "a head": (b"GET /livez HTTP/1.1\r\n", b"X-Name: " + b"a" * 1000 + b"\r\n"),
    "one header": (b"GET /livez HTTP/1.1\r\nX-Name: ", b"a" * 1000),
    "the address": (b"GET /", b"a" * 1000),
    "empty lines": (b"", b"\r\n" * 500),
    "chunks": (head("Transfer-Encoding: chunked"), chunk(bytes(1000))),
    "small chunks": (head("Transfer-Encoding: chunked"), chunk(b"a") * 200),
    "an extension": (head("Transfer-Encoding: chunked") + b"1;", b"a" * 1000),
    "trailers": (head("Transfer-Encoding: chunked") + chunk(png(1)) + b"0\r\n", b"X-Name: " + b"a" * 1000 + b"\r\n"),
    "a body over the limit": (head("Content-Length: 999999999"), bytes(1000)),
    "a part": (
        head("Transfer-Encoding: chunked", "Content-Type: multipart/form-data; boundary=x")
        + chunk(b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n'),
        chunk(bytes(1000)),
    ),
    "requests": (b"", get("/livez") * 20),
    "requests behind a slow one": (post(png(1), "Expect: 100-continue")[:-1], get("/livez") * 20),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_has_no_end_is_not_kept(address: Address, victim: ServerProcess, what: str) -> None:
    start, piece = ENDLESS[what]
    block = piece * (256 * 1024 // len(piece))
    assert_unharmed(address)
    before = resident_mib(victim)
    most = 0.0
    connection = Wire(address)
    connection.send(start)
    for number in range(SENT_MIB * MIB // len(block)):
        if not connection.send(block, within=1.0):
            break
        if number % 8 == 0:
            most = max(most, resident_mib(victim))
    most = max(most, resident_mib(victim))
    connection.reset()
    assert most - before < GROWTH_MIB


def test_ten_thousand_requests_at_once_on_each_of_many_connections(address: Address, victim: ServerProcess) -> None:
    assert_unharmed(address)
    before = resident_mib(victim)
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(wire(address)).send(post(png(1)) + get("/livez") * 10_000)
        assert resident_mib(victim) - before < GROWTH_MIB


def test_connections_that_are_reset_leave_nothing_behind(address: Address, victim: ServerProcess) -> None:
    assert_unharmed(address)
    before = resident_mib(victim)
    for number in range(8000):
        connection = Wire(address)
        connection.send(get("/livez"))
        if number % 2:
            connection.answer()
        connection.reset()
    assert_unharmed(address)
    assert resident_mib(victim) - before < GROWTH_MIB


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process has as many connections as the server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


#: What holds a connection without a request to answer.
HELD = [b"", b"G", b"POST /classify HTTP/1.1\r\nHost: x\r\n", get("/livez"), b"\r\n"]


@pytest.mark.usefixtures("many_files")
def test_a_thousand_connections_that_do_nothing_stop_nobody(address: Address, victim: ServerProcess) -> None:
    with ExitStack() as stack:
        old = stack.enter_context(wire(address))
        for number, start in zip(range(1000), itertools.cycle(HELD), strict=False):
            stack.enter_context(wire(address)).send(start)
            if number % 100 == 0:
                assert_unharmed(address)
                old.send(get("/livez"))
                assert old.status() == 200
        settle(lambda: open_sockets(victim) > 1000)  # they are all there
    settle(lambda: open_sockets(victim) < 100)


@pytest.mark.usefixtures("many_files")
def test_over_the_limit_of_connections_idle_ones_go_and_busy_ones_stay(store: list[str]) -> None:
    with server(*store, "--max-connections", "100") as running:
        address = running.address
        before = open_sockets(running)
        body = post(png(1))
        with ExitStack() as stack:
            busy = stack.enter_context(wire(address))
            busy.send(body[:-10])
            for number, start in zip(range(1000), itertools.cycle(HELD), strict=False):
                stack.enter_context(wire(address)).send(start)
                if number % 100 == 0:
                    assert_answers(address)
            running.process.send_signal(signal.SIGSTOP)  # so that it finds many at once
            for _ in range(300):
                stack.enter_context(wire(address)).send(b"G")
            running.process.send_signal(signal.SIGCONT)
            assert_answers(address)
            settle(lambda: open_sockets(running) <= before + 100)
            busy.send(body[-10:])
            assert busy.status() == 200
        assert running.terminate() == 0
        assert complaints(running) == []


FEW_FILES = """
import resource
import sys
from service.cli import main

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 256))
sys.argv[0] = "mobilenet-service"
main()
"""


@pytest.mark.usefixtures("many_files")
def test_a_process_that_may_open_few_files_keeps_some_for_itself(store: list[str]) -> None:
    with server(*store, program=("-c", FEW_FILES)) as running:
        address = running.address
        with ExitStack() as stack:
            for number in range(500):
                stack.enter_context(wire(address)).send(b"G")
                if number % 100 == 0:
                    assert_unharmed(address)
            page = stack.enter_context(wire(address))
            page.send(get("/docs/assets/swagger-ui.css"))  # a file
            assert page.status() == 200
        assert running.terminate() == 0
        assert complaints(running) == []


def test_where_every_connection_is_busy_one_more_is_refused(store: list[str]) -> None:
    with server(*store, "--max-connections", "3") as running:
        address = running.address
        body = post(png(1))
        with ExitStack() as stack:
            busy = [stack.enter_context(wire(address)) for _ in range(3)]
            for connection in busy:
                connection.send(body[:-10])
            late = stack.enter_context(wire(address))
            late.send(get("/livez"))
            assert late.ends()
            for connection in busy:
                connection.send(body[-10:])
                assert connection.status() == 200
        assert complaints(running) == []
