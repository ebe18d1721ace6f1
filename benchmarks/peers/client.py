"""Load on any HTTP/1.1 server: like ``benchmarks.load``, for servers that may also refuse, stall or hang up.

Answers may be chunked, and connections may close after each one. A request without an answer counts as status 0. The
same client loads our server, in turns with the peer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

import httptools

from benchmarks.load import Sample, connect

PATIENCE = 30.0  # seconds for one answer


class _Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser: Any = None
        self._body: list[bytes] = []
        self._lost = asyncio.Event()
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._lost.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.usable = False
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(ConnectionError(str(error)))

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.usable = False
        status = self._parser.get_status_code()
        if status >= 200 and self._answer is not None and not self._answer.done():
            self._answer.set_result((status, b"".join(self._body)))

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        assert self._transport is not None
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    async def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
            await self._lost.wait()


async def ask(url: str, request: bytes, patience: float = PATIENCE) -> tuple[int, bytes]:
    """Status and body; (0, b"") if the server cannot be reached, hangs up or does not answer."""
    try:
        connection = await connect(url, _Connection)
    except OSError:
        return 0, b""
    try:
        async with asyncio.timeout(patience):
            return await connection.ask(request)
    except (OSError, TimeoutError):
        return 0, b""
    finally:
        await connection.close()


async def closed_loop(
    url: str, prepared: Sequence[bytes], *, concurrency: int, seconds: float, lead: float, patience: float = PATIENCE
) -> Sample:
    """``concurrency`` clients, each sending when its last request was answered; counts for ``seconds`` after ``lead``.

    Clients send until the count ends, so that the server has full concurrency throughout, however long one answer
    takes. Requests that are unanswered at the end are awaited but not counted.
    """
    sample = Sample(seconds=seconds)
    begins = time.perf_counter() + lead
    ends = begins + seconds

    async def client(index: int) -> None:
        connection: _Connection | None = None
        turn = index
        while (sent := time.perf_counter()) < ends:
            status = 0
            try:
                if connection is None or not connection.usable:
                    if connection is not None:
                        await connection.close()
                    connection = await connect(url, _Connection)
                async with asyncio.timeout(patience):
                    status, _ = await connection.ask(prepared[turn % len(prepared)])
            except (OSError, TimeoutError):
                if connection is not None:
                    await connection.close()
                await asyncio.sleep(0.01)  # a server that refuses connections must not be asked without a pause
            turn += concurrency
            if begins <= (answered := time.perf_counter()) < ends:
                sample.statuses[status] += 1
                if status == 200:
                    sample.latencies.append(answered - sent)
        if connection is not None:
            await connection.close()

    await asyncio.gather(*(client(index) for index in range(concurrency)))
    return sample
