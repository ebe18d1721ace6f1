"""Requests to one or several addresses, repeated while that can help."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from asyncio import sleep
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Literal

import httpx

from mobilenet_client import errors
from mobilenet_client.errors import ServiceError, ServiceUnavailable, Timeout

_CONNECT_S = 3.0  # an address that drops packets must not use up the time that another one could answer in
_GRACE_S = 1.0  # what the service's own 504 may take, while there is time to repeat the request
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

_url = lru_cache(256)(httpx.URL)  # parsed once: the same few are asked again and again


@dataclass(eq=False, repr=False)
class Settings:
    """A client of the service at ``url``; several addresses are asked in turn, and ``unix:/path`` is a socket.

    The forms for many images return errors of single ones in their places. What concerns all is raised: a wrong key or
    parameter, other weights, a service that answers nobody.
    """

    url: str | Sequence[str]
    api_key: str | None = None
    timeout: float = 10.0  # seconds for an image, repetitions included; of many images, for each try
    retries: int | None = None  # repetitions at most; None: as many as there is time for
    concurrency: int = 32  # requests at once
    embedding_id: str | None = None  # embeddings must be by these weights
    priority: Literal["low"] | None = None  # "low": only while nobody else waits
    _: KW_ONLY
    retry_for: float = 300.0  # of many images, seconds for each, so that a run outlasts a restart of the service
    transport: httpx.AsyncBaseTransport | None = None  # another way to the service


class _Address:
    """Each request has a transport to itself: httpx's pool looks at every connection for every request."""

    def __init__(self, url: str, given: httpx.AsyncBaseTransport | None) -> None:
        kind, _, path = url.partition(":")
        if kind not in ("http", "https", "unix"):
            raise ValueError(f"an address begins with http://, https:// or unix:, not {url}")
        self.name, self.base = url, "http://localhost" if kind == "unix" else url.rstrip("/")
        uds = "/" + path.lstrip("/") if kind == "unix" else None
        verify = httpx.create_ssl_context() if kind == "https" else False  # once: it takes 20 ms
        self._new: Callable[[], httpx.AsyncBaseTransport] = lambda: (
            given or httpx.AsyncHTTPTransport(verify, uds=uds, limits=httpx.Limits(keepalive_expiry=30.0))
        )
        self._idle: list[httpx.AsyncBaseTransport] = []

    async def send(self, request: httpx.Request) -> httpx.Response:
        transport = self._idle.pop() if self._idle else self._new()
        try:
            answer = await transport.handle_async_request(request)
            await answer.aread()
            return answer
        finally:
            self._idle.append(transport)

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()


class Wire:
    """At most ``concurrency`` requests at once, to each address in turn."""

    def __init__(self, settings: Settings) -> None:
        urls = [settings.url] if isinstance(settings.url, str) else settings.url
        if not urls:
            raise ValueError("the service needs an address")
        self._addresses = [_Address(url, settings.transport) for url in urls]
        self._turn = itertools.count(random.randrange(len(urls)))  # noqa: S311  # many clients start at once
        key, self._settings = settings.api_key, settings
        given = {"Authorization": key and f"Bearer {key}", "X-Priority": settings.priority}
        self._headers = {name: value for name, value in given.items() if value}
        self._slots, self._reached = asyncio.Semaphore(settings.concurrency), False
        #: When a request was last answered by more than "not now"; ``time.monotonic``.
        self.answered = float("-inf")

    async def post(self, path: str, headers: dict[str, str], body: bytes, within: float) -> httpx.Response:
        """The answer, if it is 200; else ServiceError, after ``within`` seconds, ``timeout`` for each try.

        Or after ``timeout``, if nobody has ever answered: then the address is wrong, rather than the time.
        """
        began, turn, attempt, failed = time.monotonic(), next(self._turn), 0, False
        error: ServiceError
        while True:
            address = self._addresses[(turn + attempt) % len(self._addresses)]
            limit, asked_for = (within if self._reached else self._settings.timeout), None
            try:
                answer = await self._try(address, path, self._headers | headers, body, began + limit)
            except httpx.TransportError as reason:
                error = ServiceUnavailable(0, "Unreachable", f"{address.name}: {reason or type(reason).__name__}")
            except TimeoutError:
                error = Timeout(0, "No answer in time", f"{address.name} did not answer; {limit:g} s were given")
            else:
                self._reached, limit, asked_for = True, within, answer.headers.get("Retry-After")
                if answer.status_code == 200:
                    self.answered = time.monotonic()
                    return answer
                error = errors.of_answer(answer)
                if not _may_repeat(answer) and (answer.status_code != 500 or failed):
                    self.answered = time.monotonic()
                    raise error
                failed = failed or answer.status_code == 500
            # Another address may have room now.
            pause = 0.0 if attempt + 1 < len(self._addresses) else _pause(asked_for, attempt)
            if attempt == self._settings.retries or time.monotonic() + pause >= began + limit:
                raise error
            await sleep(pause)
            attempt += 1

    async def _try(
        self, address: _Address, path: str, headers: dict[str, str], body: bytes, deadline: float
    ) -> httpx.Response:
        async with asyncio.timeout(deadline - time.monotonic()), self._slots:
            left = max(0.001, min(self._settings.timeout, deadline - time.monotonic()))
            headers["X-Request-Timeout-Ms"] = str(int(left * 1000))
            limits = {"timeout": {"connect": min(_CONNECT_S, left)}}
            request = httpx.Request("POST", _url(address.base + path), headers=headers, content=body, extensions=limits)
            async with asyncio.timeout(left + _GRACE_S):
                return await address.send(request)

    async def aclose(self) -> None:
        for address in self._addresses:
            await address.aclose()


def _may_repeat(answer: httpx.Response) -> bool:
    """Whether another answer may follow a little later; the service's own 504 asks for more time instead."""
    by_proxy = not answer.headers.get("Content-Type", "").startswith(errors.PROBLEM)
    return answer.status_code in (429, 502, 503) or (answer.status_code == 504 and by_proxy)


def _pause(asked_for: str | None, attempt: int) -> float:
    """Retry-After and up to a quarter more, so that not all come back at once; else a random time, bounded by more."""
    if asked_for is not None and asked_for.isdecimal():
        return int(asked_for) * random.uniform(1, 1.25)  # noqa: S311
    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempt, 16)))  # noqa: S311
