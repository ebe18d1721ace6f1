"""An offer of another protocol, in every spelling and cut in two anywhere: its body is never taken for a request."""

from __future__ import annotations

import time

import pytest

from tests.hostile.http.conftest import Address
from tests.hostile.http.wire import get, wire

HIDDEN = b"GET /livez HTTP/1.1\r\nHost: hidden\r\n\r\n"


def offer(name: str, filler: int = 0) -> bytes:
    """A POST whose body looks like a request of its own."""
    lines = ["POST /classify HTTP/1.1", "Host: x", f"X-Filler: {'a' * filler}", "Connection: Upgrade", f"{name}: h2c"]
    lines.append(f"Content-Length: {len(HIDDEN)}")
    return "\r\n".join([*lines, "", ""]).encode() + HIDDEN


@pytest.mark.parametrize("name", ["Upgrade", "upgrade", "UPGRADE", "uPgRaDe"])
@pytest.mark.parametrize("filler", [0, 5000])
@pytest.mark.parametrize("ahead", [b"", b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["alone", "pipelined"])
@pytest.mark.parametrize("cut", [None, -len(HIDDEN), -len(HIDDEN) - 40, -1])
def test_a_body_is_never_the_next_request(
    address: Address, name: str, filler: int, ahead: bytes, cut: int | None
) -> None:
    data = ahead + offer(name, filler)
    with wire(address) as connection:
        connection.send(data[:cut])
        if cut is not None:
            time.sleep(0.01)  # two pieces, if the kernel will; one is as good a case
            connection.send(data[cut:])
        statuses = []
        for _ in range(2 if ahead else 1):
            if (answer := connection.answer()) is not None:
                statuses.append(answer.status)
        connection.send(get("/nothing", "Connection: close"))
        while (answer := connection.answer()) is not None:
            statuses.append(answer.status)
    if ahead:
        assert statuses.pop(0) == 200
    # The body is no image; where the parser kept it back there is none, and the connection ends with that answer.
    assert statuses in ([415, 404], [400])
