"""The load generator of all benchmarks: raw HTTP/1.1 over asyncio, closed loop and open loop.

Closed loop: each of ``concurrency`` connections sends its next request when its last one is answered. Open loop:
requests are due at Poisson times, independent of the server, and their latency counts from the time when they were
*due*, so that a server that stalls cannot hide the requests that it kept waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import numpy as np

PATIENCE = 30.0  # seconds for one answer


@dataclass
class Sample:
    """The result of one run. Latencies are in seconds, of requests answered with 200 only."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)  # latencies of all other answers
    retry_after: list[bytes | None] = field(default_factory=list)  # the header of each of these
    statuses: Counter[int] = field(default_factory=Counter)
    stages: dict[str, list[float]] = field(default_factory=dict)  # milliseconds from Server-Timing

    @property
    def rate(self) -> float:
        """Requests per second that were answered with 200."""
        return self.statuses[200] / self.seconds

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, share)) if self.latencies else float("nan")


def merged(samples: Iterable[Sample]) -> Sample:
    whole = Sample()
    for sample in samples:
        whole.seconds += sample.seconds
        whole.latencies += sample.latencies
        whole.refusals += sample.refusals
        whole.retry_after += sample.retry_after
        whole.statuses += sample.statuses
        for stage, values in sample.stages.items():
            whole.stages.setdefault(stage, []).extend(values)
    return whole


def post(
    path: str, body: bytes, content_type: str = "image/jpeg", *, host: str = "127.0.0.1", headers: str = ""
) -> bytes:
    """A whole request, as bytes for the socket; ``headers`` are further header lines, each with its CRLF."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n"
    return f"{head}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def requests(url: str, path: str, bodies: Sequence[bytes], *, headers: str = "") -> list[bytes]:
    return [post(path, body, host=urlsplit(url).netloc, headers=headers) for body in bodies]


class Answer(NamedTuple):
    status: int  # 0 if there was none: unreachable, hung up or too late
    head: bytes = b""
    body: bytes = b""


class _Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time. Answers may be chunked."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._parser: Any = None
        self._received, self._body = b"", list[bytes]()
        self._lost = asyncio.Event()
        self.usable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.usable = True
        # uvloop's transports are not registered as asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._fail("the server closed the connection")

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(str(error))

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self.usable = self.usable and self._parser.should_keep_alive()
        status = self._parser.get_status_code()
        if status >= 200 and self._answer is not None and not self._answer.done():
            head = self._received.partition(b"\r\n\r\n")[0]
            self._answer.set_result(Answer(status, head, b"".join(self._body)))

    def _fail(self, reason: str) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(reason))

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        assert self._transport is not None
        self._received, self._body = b"", list[bytes]()
        self._parser = httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    async def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
            await self._lost.wait()


async def _connect(url: str, source: str | None = None) -> _Connection:
    """To the host and port of ``url``, from the address ``source``."""
    host, _, port = urlsplit(url).netloc.partition(":")
    _, connection = await asyncio.get_running_loop().create_connection(
        _Connection, host, int(port), local_addr=None if source is None else (source, 0)
    )
    return connection


async def ask(url: str, request: bytes, patience: float = PATIENCE) -> Answer:
    """One request on a connection of its own."""
    try:
        async with asyncio.timeout(patience):
            connection = await _connect(url)
            try:
                return await connection.ask(request)
            finally:
                await connection.close()
    except (OSError, TimeoutError):
        return Answer(0)


def _header(head: bytes, name: bytes) -> bytes | None:
    _, found, rest = head.lower().partition(b"\r\n" + name + b": ")
    return rest.split(b"\r\n", 1)[0] if found else None


def _record(sample: Sample, answer: Answer, latency: float) -> None:
    sample.statuses[answer.status] += 1
    if answer.status != 200:
        sample.refusals.append(latency)
        sample.retry_after.append(_header(answer.head, b"retry-after"))
        return
    sample.latencies.append(latency)
    if timing := _header(answer.head, b"server-timing"):
        for entry in timing.split(b", "):
            stage, found, duration = entry.partition(b";dur=")
            if found:
                sample.stages.setdefault(stage.decode(), []).append(float(duration))


async def closed_loop(
    url: str,
    prepared: Sequence[bytes],
    *,
    concurrency: int,
    seconds: float,
    lead: float = 0.0,
    source: str | None = None,
) -> Sample:
    """Counts everything until the last answer; after a ``lead`` only answers that arrive within ``seconds``.

    Every client sends until the end, so that after a lead the server has full concurrency throughout what is counted,
    however long one answer takes.
    """
    sample = Sample(seconds=seconds)
    begins = time.perf_counter() + lead
    ends = begins + seconds

    async def client(index: int) -> None:
        connection = _Connection()
        turn = index
        while (sent := time.perf_counter()) < ends:
            answer = Answer(0)
            try:
                if not connection.usable:
                    await connection.close()
                    connection = await _connect(url, source)
                async with asyncio.timeout(PATIENCE):
                    answer = await connection.ask(prepared[turn % len(prepared)])
            except (OSError, TimeoutError):
                await connection.close()
                await asyncio.sleep(0.01)  # a server that refuses connections must not be asked without a pause
            turn += concurrency
            answered = time.perf_counter()
            if not lead or begins <= answered < ends:
                _record(sample, answer, answered - sent)
        await connection.close()

    await asyncio.gather(*(client(index) for index in range(concurrency)))
    if not lead:
        sample.seconds = time.perf_counter() - begins
    return sample


async def open_loop(url: str, prepared: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    idle = [await _connect(url) for _ in range(8)]
    sample = Sample()
    started = time.perf_counter()

    async def one(index: int, at: float) -> None:
        connection = idle.pop() if idle else await _connect(url)
        _record(sample, await connection.ask(prepared[index % len(prepared)]), time.perf_counter() - at)
        if connection.usable:
            idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for index, offset in enumerate(due):
            at = started + float(offset)
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(index, at))
    sample.seconds = time.perf_counter() - started
    for connection in idle:
        await connection.close()
    return sample
