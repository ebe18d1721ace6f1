"""A load generator: raw HTTP/1.1 over asyncio, closed loop and open loop.

Closed loop: each of ``concurrency`` connections sends its next request when its last one is answered. Open loop:
requests are due at Poisson times, independent of the server, and their latency counts from the time when they were
*due*, so that a server that stalls cannot hide the requests that it kept waiting. ``ceiling`` measures the generator.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast
from urllib.parse import urlsplit

import numpy as np

P = TypeVar("P", bound=asyncio.Protocol)


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

    def merge(self, other: Sample) -> None:
        self.seconds += other.seconds
        self.latencies += other.latencies
        self.refusals += other.refusals
        self.retry_after += other.retry_after
        self.statuses += other.statuses
        for stage, values in other.stages.items():
            self.stages.setdefault(stage, []).extend(values)


def requests(url: str, path: str, bodies: Sequence[bytes], *, headers: str = "") -> list[bytes]:
    """Whole requests, as bytes for the socket; ``headers`` are further header lines, each with its CRLF."""
    host = urlsplit(url).netloc
    return [
        b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: image/jpeg\r\n%sContent-Length: %d\r\n\r\n%s"
        % (path.encode(), host.encode(), headers.encode(), len(body), body)
        for body in bodies
    ]


class _Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lowered = head.lower()
        at = lowered.find(b"content-length:")
        length = int(lowered[at + 15 :].split(b"\r\n", 1)[0])
        if len(body) >= length and self._answer is not None and not self._answer.done():
            self._buffer = b""
            self._answer.set_result((int(head[9:12]), head))

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(url: str, protocol: type[P], *, source: str | None = None) -> P:
    """Connect a new ``protocol`` to the host and port of ``url``, from the address ``source``."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    _, connection = await asyncio.get_running_loop().create_connection(
        protocol, address.hostname, address.port, local_addr=None if source is None else (source, 0)
    )
    return connection


def _header(head: bytes, name: bytes) -> bytes | None:
    _, found, rest = head.lower().partition(b"\r\n" + name + b": ")
    return rest.split(b"\r\n", 1)[0] if found else None


def _record(sample: Sample, status: int, head: bytes, latency: float) -> None:
    sample.statuses[status] += 1
    if status != 200:
        sample.refusals.append(latency)
        sample.retry_after.append(_header(head, b"retry-after"))
        return
    sample.latencies.append(latency)
    at = head.find(b"server-timing: ")
    if at >= 0:
        for entry in head[at + 15 :].split(b"\r\n", 1)[0].split(b", "):
            stage, _, duration = entry.partition(b";dur=")
            sample.stages.setdefault(stage.decode(), []).append(float(duration))


async def closed_loop(
    url: str, prepared: Sequence[bytes], *, concurrency: int, seconds: float, source: str | None = None
) -> Sample:
    sample = Sample()
    started = time.perf_counter()
    ends = started + seconds

    async def client(index: int) -> None:
        connection = await connect(url, _Connection, source=source)
        turn = index
        while (sent := time.perf_counter()) < ends:
            status, head = await connection.ask(prepared[turn % len(prepared)])
            _record(sample, status, head, time.perf_counter() - sent)
            turn += concurrency
        connection.close()

    await asyncio.gather(*(client(index) for index in range(concurrency)))
    sample.seconds = time.perf_counter() - started
    return sample


async def open_loop(url: str, prepared: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    idle: list[_Connection] = [await connect(url, _Connection) for _ in range(8)]
    sample = Sample()
    started = time.perf_counter()

    async def one(index: int, at: float) -> None:
        connection = idle.pop() if idle else await connect(url, _Connection)
        status, head = await connection.ask(prepared[index % len(prepared)])
        _record(sample, status, head, time.perf_counter() - at)
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for index, offset in enumerate(due):
            at = started + float(offset)
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(index, at))
    sample.seconds = time.perf_counter() - started
    for connection in idle:
        connection.close()
    return sample


_CANNED = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Canned(asyncio.Protocol):
    """Answers at once whenever ``size`` bytes, one request, have arrived."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._received = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received >= self._size and self._transport is not None:
            self._received = 0
            self._transport.write(_CANNED)


async def ceiling(prepared: Sequence[bytes], *, seconds: float = 1.0) -> float:
    """Requests per second of this generator with a server that does nothing, in the same process."""
    request = prepared[0]
    server = await asyncio.get_running_loop().create_server(lambda: _Canned(len(request)), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sample = await closed_loop(f"http://127.0.0.1:{port}", [request], concurrency=32, seconds=seconds)
    server.close()
    return sample.rate
