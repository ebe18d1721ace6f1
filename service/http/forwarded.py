"""Who the client is behind proxies: the last address in X-Forwarded-For that is none of theirs.

Each proxy appends the address that connected to it, and only what our own proxies appended can be believed: whatever
stands further left, a client may have sent itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Forwarded:
    """Replaces the client in the scope if the request comes from one of ``proxies``, or through a Unix socket."""

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        """``proxies``: addresses, networks, or ``*`` for any, which takes the first address in the header."""
        self._app = app
        self._all = "*" in proxies
        self._networks = [ipaddress.ip_network(proxy, strict=False) for proxy in proxies if proxy != "*"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (client := self._client(scope)) is not None:
            scope = {**scope, "client": (str(client), 0)}
        await self._app(scope, receive, send)

    def _client(self, scope: Scope) -> _Address | None:
        """None if the header says nothing that can be believed."""
        found = None
        connected = scope.get("client")
        if connected and not self._is_proxy(_address(connected[0])):
            return None
        for hop in _hops(scope):
            address = _address(hop)
            if address is None:  # "unknown", or nonsense that a client sent: what stands left of it is worth no more
                break
            found = address
            if not self._is_proxy(address):
                break
        return found

    def _is_proxy(self, address: _Address | None) -> bool:
        return self._all or (address is not None and any(address in network for network in self._networks))


def _hops(scope: Scope) -> Iterator[str]:
    """From the nearest to the farthest. Some proxies append to the header, others add another of the same name."""
    for name, value in reversed(scope["headers"]):
        if name == b"x-forwarded-for":
            yield from reversed(value.decode("latin-1").split(","))


def _address(text: str) -> _Address | None:
    """1.2.3.4, 1.2.3.4:80, 2001:db8::1, [2001:db8::1], [2001:db8::1]:80; an IPv4 address in IPv6 is taken as such."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address
