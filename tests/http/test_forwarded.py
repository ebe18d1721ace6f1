"""Who the client is behind trusted proxies: in the log, for shares, and whatever a client pretends."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.http.forwarded import Forwarded
from service.model.artifact import Artifact
from tests.hostile.http.wire import Wire, post, wire
from tests.running import png, running_app

pytestmark = pytest.mark.anyio

OURS = ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")


async def client_of(proxies: tuple[str, ...], connected: str | None, *forwarded: str) -> str | None:
    """The address that the application sees; ``forwarded`` are header lines in the order sent."""
    seen: list[str | None] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"][0] if scope["client"] else None)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    scope = {"type": "http", "client": (connected, 5) if connected else None, "headers": [(b"host", b"x"), *headers]}
    await Forwarded(application, proxies)(scope, receive, send)
    (client,) = seen
    return client


@pytest.mark.parametrize(
    ("connected", "forwarded", "client"),
    [
        ("10.1.1.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.1.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.1.1.1", ["203.0.113.9, 10.2.2.2, 192.0.2.7"], "203.0.113.9"),
        ("10.1.1.1", ["198.51.100.1", "203.0.113.9", "10.2.2.2"], "203.0.113.9"),
        ("10.1.1.1", ["198.51.100.1, 203.0.113.9", "10.2.2.2"], "203.0.113.9"),
        ("10.1.1.1", ["10.9.9.9, 10.2.2.2"], "10.9.9.9"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.9, unknown, 10.2.2.2"], "unknown"),
        ("10.1.1.1", ["203.0.113.9,"], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.1.1.1", ["[2001:db9::1]:80, [2001:db8::1]:80"], "2001:db9::1"),
        ("10.1.1.1", ["2001:db9::1, 2001:DB8:0::1"], "2001:db9::1"),
        ("::ffff:10.1.1.1", ["203.0.113.9"], "203.0.113.9"),
        ("2001:db8::5", ["203.0.113.9"], "203.0.113.9"),
        ("203.0.113.1", ["198.51.100.1"], "203.0.113.1"),
        (None, ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        (None, [], "unix"),
    ],
)
async def test_it_is_the_last_address_that_is_no_proxys(
    connected: str | None, forwarded: list[str], client: str | None
) -> None:
    assert await client_of(OURS, connected, *forwarded) == client


@pytest.mark.parametrize(
    ("connected", "forwarded", "client"),
    [("203.0.113.1", ["198.51.100.1, 203.0.113.9"], "198.51.100.1"), ("203.0.113.1", [], "203.0.113.1")],
)
async def test_a_star_trusts_everyone(connected: str, forwarded: list[str], client: str) -> None:
    assert await client_of(("*",), connected, *forwarded) == client


async def test_what_a_client_sends_itself_costs_nothing() -> None:
    """A header of 16 KB of addresses is looked at from its end only."""
    assert await client_of(OURS, "10.1.1.1", ",".join(["1.1.1.1"] * 2000) + ",203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize("trusted", [True, False])
def test_clients_behind_a_proxy_have_their_own_shares_and_names(
    artifact: Artifact, caplog: pytest.LogCaptureFixture, trusted: bool
) -> None:
    def ask(connection: Wire, client: str, sent: int) -> None:
        connection.send(post(png(1), f"X-Forwarded-For: 198.51.100.1, {client}")[:sent])

    proxies = "127.0.0.1" if trusted else ""
    options: dict[str, Any] = {"max_in_flight": 4, "max_client_share": 0.25, "forwarded_allow_ips": proxies}
    with (
        caplog.at_level(logging.INFO),
        running_app(artifact, **options) as app,
        wire(app.address) as first,
        wire(app.address) as same,
        wire(app.address) as other,
    ):
        ask(first, "203.0.113.1", -10)  # it has its share until its body has arrived
        app.wait_for_metric("mobilenet_in_flight", 1)
        ask(same, "203.0.113.1", 10_000)
        ask(other, "203.0.113.2", 10_000)
        statuses = [answer.status for answer in (same.answer(), other.answer()) if answer is not None]
        assert statuses == ([429, 200] if trusted else [429, 429])
    lines = [record.fields for record in caplog.records if record.name == "service.access"]  # type: ignore[attr-defined]
    clients = {line["client"] for line in lines if line["path"] == "/classify"}
    assert clients == ({"203.0.113.1", "203.0.113.2"} if trusted else {"127.0.0.1"})
