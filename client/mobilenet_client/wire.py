"""Requests to one or several addresses, repeated while that can help."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from asyncio import sleep
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import httpx

from mobilenet_client import errors
from mobilenet_client.errors import ServiceError, ServiceUnavailable, Timeout

_CONNECT_S = 3.0  # an address that drops packets must not use up the time that another one could answer in
_GRACE_S = 1.0  # what the service's own 504 may take, while there is time to repeat the request
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class _Address:
    """Each request has a transport to itself: httpx's pool looks at every connection for every request."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None) -> None:
        self.name, self._given = url, transport
        self._idle: list[httpx.AsyncBaseTransport] = []
        kind, _, path = url.partition(":")
        if kind not in ("http", "https", "unix"):
            raise ValueError(f"an address begins with http://, https:// or unix:, not {url}")
        self.base = "http://localhost" if kind == "unix" else url.rstrip("/")
        self._options: dict[str, Any] = {
            "verify": httpx.create_ssl_context() if kind == "https" else False,  # once: it takes 20 ms
            "uds": "/" + path.lstrip("/") if kind == "unix" else None,
            "limits": httpx.Limits(keepalive_expiry=30.0),
        }

    async def send(self, request: httpx.Request) -> httpx.Response:
        if self._given is not None:
            return await self._read(self._given, request)
        transport = self._idle.pop() if self._idle else httpx.AsyncHTTPTransport(**self._options)
        try:
            return await self._read(transport, request)
        finally:
            self._idle.append(transport)

    async def _read(self, transport: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
        answer = await transport.handle_async_request(request)
        await answer.aread()
        return answer

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()


class Wire:
    """At most ``concurrency`` requests at once, to each address in turn; ``retries`` None: as many as there is time."""

    def __init__(
        self,
        urls: Sequence[str],
        headers: Mapping[str, str],
        concurrency: int,
        retries: int | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._addresses = [_Address(url, transport) for url in urls]
        if not urls:
            raise ValueError("the service needs an address")
        self._turn = itertools.count(random.randrange(len(urls)))  # noqa: S311  # many clients start at once
        self._headers, self._retries, self._slots = headers, retries, asyncio.Semaphore(concurrency)
        self._reached = False
        #: When a request was last answered by more than "not now"; ``time.monotonic``.
        self.answered = float("-inf")

    async def post(
        self, path: str, headers: Mapping[str, str], body: bytes, *, patience: float, within: float
    ) -> httpx.Response:
        """The answer, if it is 200; else ServiceError, after ``within`` seconds, ``patience`` for each try.

        Or after ``patience``, if nobody has ever answered: then the address is wrong, rather than the time.
        """
        began, turn, attempt, failed = time.monotonic(), next(self._turn), 0, False
        error: ServiceError
        while True:
            address = self._addresses[(turn + attempt) % len(self._addresses)]
            limit, asked_for = (within if self._reached else patience), None
            try:
                answer = await self._try(address, path, {**self._headers, **headers}, body, patience, began + limit)
            except httpx.TransportError as reason:
                error = ServiceUnavailable(0, "Unreachable", f"{address.name}: {reason or type(reason).__name__}")
            except TimeoutError:
                error = Timeout(0, "No answer in time", f"{address.name} did not answer; {limit:g} s were given")
            else:
                self._reached, limit, asked_for = True, within, answer.headers.get("Retry-After")
                if not _may_repeat(answer) and (answer.status_code != 500 or failed):
                    self.answered = time.monotonic()
                    if answer.status_code == 200:
                        return answer
                    raise errors.of_answer(answer)
                failed = failed or answer.status_code == 500
                error = errors.of_answer(answer)
            # Another address may have room now.
            pause = 0.0 if attempt + 1 < len(self._addresses) else _pause(asked_for, attempt)
            if attempt == self._retries or time.monotonic() + pause >= began + limit:
                raise error
            await sleep(pause)
            attempt += 1

    async def _try(
        self, address: _Address, path: str, headers: dict[str, str], body: bytes, patience: float, deadline: float
    ) -> httpx.Response:
        async with asyncio.timeout(deadline - time.monotonic()) as limit, self._slots:
            left = deadline - time.monotonic()
            limit.reschedule(asyncio.get_running_loop().time() + min(patience + _GRACE_S, left))
            left = min(patience, left)
            headers["X-Request-Timeout-Ms"] = str(max(1, int(left * 1000)))
            extensions = {"timeout": {"connect": min(_CONNECT_S, left)}}
            url = _url(address.base, path)
            return await address.send(httpx.Request("POST", url, headers=headers, content=body, extensions=extensions))

    async def aclose(self) -> None:
        for address in self._addresses:
            await address.aclose()


@lru_cache(256)
def _url(base: str, path: str) -> httpx.URL:
    return httpx.URL(base + path)


def _may_repeat(answer: httpx.Response) -> bool:
    """Whether another answer may follow a little later; the service's own 504 asks for more time instead."""
    by_proxy = not answer.headers.get("Content-Type", "").startswith(errors.PROBLEM)
    return answer.status_code in (429, 502, 503) or (answer.status_code == 504 and by_proxy)


def _pause(asked_for: str | None, attempt: int) -> float:
    """Retry-After and up to a quarter more, so that not all come back at once; else a random time, bounded by more."""
    if asked_for is not None and asked_for.isdecimal():
        return int(asked_for) * random.uniform(1, 1.25)  # noqa: S311
    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempt, 16)))  # noqa: S311
