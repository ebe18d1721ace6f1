"""An offer of another protocol, in every spelling and cut in two anywhere: its body is never taken for a request."""

from __future__ import annotations

import time

import pytest

from tests.hostile.http.framing import head
from tests.hostile.http.wire import Address, get, wire

#: The body of a POST that offers; it looks like a request of its own.
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: hidden\r\n\r\n"


@pytest.mark.parametrize("name", ["Upgrade", "upgrade", "UPGRADE", "uPgRaDe"])
@pytest.mark.parametrize("filler", [0, 5000])
@pytest.mark.parametrize("ahead", [b"", get("/readyz")], ids=["alone", "pipelined"])
@pytest.mark.parametrize("cut", [None, -len(HIDDEN), -len(HIDDEN) - 40, -1])
def test_a_body_is_never_the_next_request(
    address: Address, name: str, filler: int, ahead: bytes, cut: int | None
) -> None:
    lines = (f"X-Filler: {'a' * filler}", "Connection: Upgrade", f"{name}: h2c", f"Content-Length: {len(HIDDEN)}")
    data = ahead + head(*lines) + HIDDEN
    with wire(address) as connection:
        connection.send(data[:cut])
        if cut is not None:
            time.sleep(0.01)  # two pieces, if the kernel will; one is as good a case
            connection.send(data[cut:])
        statuses = [connection.status() for _ in range(2 if ahead else 1)]
        connection.send(get("/nothing", "Connection: close"))
        while (status := connection.status()) is not None:
            statuses.append(status)
    if ahead:
        assert statuses.pop(0) == 200
    # The body is no image; where the parser kept it back there is none, and the connection ends with that answer.
    assert statuses in ([415, 404], [400])
