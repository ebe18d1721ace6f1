"""Memory and connections: what a client sends without end is not kept, and how many connect does not matter."""

from __future__ import annotations

import itertools
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.process import ServerProcess
from tests.hostile.http.conftest import (
    assert_answers,
    assert_unharmed,
    changed,
    open_sockets,
    serving,
    settle,
    unharmed,
)
from tests.hostile.http.content import FORM
from tests.hostile.http.framing import head
from tests.hostile.http.wire import Address, Wire, chunk, get, post, wire
from tests.processes import tree
from tests.running import png

pytestmark = pytest.mark.slow

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
        head("Transfer-Encoding: chunked", FORM)
        + chunk(b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n'),
        chunk(bytes(1000)),
    ),
    "requests": (b"", get("/livez") * 20),
    "requests behind a slow one": (post(png(1), "Expect: 100-continue")[:-1], get("/livez") * 20),
}


@pytest.fixture
def growth(address: Address, victim: ServerProcess) -> Callable[[], float]:
    """MiB by which the process has grown since the test began."""
    assert_unharmed(address)
    before = tree.resident(victim.process.pid)
    return lambda: tree.resident(victim.process.pid) - before


@pytest.mark.parametrize("what", ENDLESS)
def test_what_has_no_end_is_not_kept(address: Address, growth: Callable[[], float], what: str) -> None:
    start, piece = ENDLESS[what]
    block = piece * (256 * 1024 // len(piece))
    connection = Wire(address)
    connection.send(start)
    for number in range(SENT_MIB * 2**20 // len(block)):
        if not connection.send(block, within=1.0):
            break
        if number % 8 == 0:
            assert growth() < GROWTH_MIB
    assert growth() < GROWTH_MIB
    connection.reset()


def test_ten_thousand_requests_at_once_on_each_of_many_connections(
    address: Address, growth: Callable[[], float]
) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(wire(address)).send(post(png(1)) + get("/livez") * 10_000)
        assert growth() < GROWTH_MIB


def test_connections_that_are_reset_leave_nothing_behind(address: Address, growth: Callable[[], float]) -> None:
    for number in range(8000):
        connection = Wire(address)
        connection.send(get("/livez"))
        if number % 2:
            connection.answer()
        connection.reset()
    assert_unharmed(address)
    assert growth() < GROWTH_MIB


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """For connections, of which this process may have as many as the server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with ExitStack() as connections:
        yield connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


#: What holds a connection without a request to answer.
HELD = [b"", b"G", b"POST /classify HTTP/1.1\r\nHost: x\r\n", get("/livez"), b"\r\n"]


def hold(stack: ExitStack, address: Address, connections: int) -> Iterator[None]:
    """Open so many ``connections`` that do nothing, and stop at every hundredth."""
    for number, start in zip(range(connections), itertools.cycle(HELD), strict=False):
        stack.enter_context(wire(address)).send(start)
        if number % 100 == 0:
            yield


def test_a_thousand_connections_that_do_nothing_stop_nobody(tiny: list[str], stack: ExitStack) -> None:
    # It waits for their heads longer than any machine takes to open a thousand.
    patient = changed("from service.http.server import connection\nconnection.HEAD_TIMEOUT_S = 300.0")
    with serving(*tiny, program=patient) as running, unharmed(running) as address, stack:
        old = stack.enter_context(wire(address))
        for _ in hold(stack, address, 1000):
            assert_unharmed(address)
            assert old.ask(get("/livez")).status == 200
        settle(lambda: open_sockets(running) > 1000)  # they are all there


def test_over_the_limit_of_connections_idle_ones_go_and_busy_ones_stay(tiny: list[str], stack: ExitStack) -> None:
    with serving(*tiny, "--max-connections", "100") as running, stack:
        address = running.address
        before = open_sockets(running)
        body = post(png(1))
        busy = stack.enter_context(wire(address))
        busy.send(body[:-10])
        for _ in hold(stack, address, 1000):
            assert_answers(address)
        running.process.send_signal(signal.SIGSTOP)  # so that it finds many at once
        for _ in range(300):
            stack.enter_context(wire(address)).send(b"G")
        running.process.send_signal(signal.SIGCONT)
        assert_answers(address)
        settle(lambda: open_sockets(running) <= before + 100)
        assert busy.ask(body[-10:]).status == 200


FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 256))
"""


def test_a_process_that_may_open_few_files_keeps_some_for_itself(tiny: list[str], stack: ExitStack) -> None:
    with serving(*tiny, program=changed(FEW_FILES)) as running, stack:
        address = running.address
        for _ in hold(stack, address, 500):
            assert_unharmed(address)
        page = stack.enter_context(wire(address))
        page.send(get("/docs/assets/swagger-ui.css"))  # a file
        assert page.status() == 200


def test_where_every_connection_is_busy_one_more_is_refused(tiny: list[str], stack: ExitStack) -> None:
    with serving(*tiny, "--max-connections", "3") as running, stack:
        body = post(png(1))
        busy = [stack.enter_context(wire(running.address)) for _ in range(3)]
        for connection in busy:
            connection.send(body[:-10])
        late = stack.enter_context(wire(running.address))
        late.send(get("/livez"))
        assert late.ends()
        for connection in busy:
            assert connection.ask(body[-10:]).status == 200
