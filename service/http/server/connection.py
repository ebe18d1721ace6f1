"""One client connection: uvicorn's protocol over httptools, bounded where uvicorn trusts the client.

Bytes come from the socket; complete requests go to the application. Bounded are the time and the bytes of a request's
head, requests sent ahead of their answers, bodies that go on after they were refused, answers that nobody fetches,
and the number of connections. What is no HTTP gets a problem document like every other error.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.errors import BadRequest, HeadersTooLarge, ServiceError
from service.http import problems
from service.http.middleware import MAX_HEADER_BYTES, SECURITY_HEADERS
from service.metrics import Metrics

logger = logging.getLogger(__name__)

#: From the first byte of a head to its last. Also how long a body may go on that was refused before its end: closed at
#: once, the connection would be reset, and the client might never read why.
HEAD_TIMEOUT_S = 10.0

#: In a row and no body: a head, trailers, chunk extensions. More than the application takes, for a head that
#: arrives as a whole is the application's to refuse.
_MAX_BYTES_BESIDE_BODY = 4 * MAX_HEADER_BYTES

#: A piece of 256 KB can hold ten thousand requests, and each costs kilobytes while it waits for its turn.
_MAX_PIPELINED = 16

#: The offer to go on in another protocol, which is declined. httptools takes a request that makes it for one without a
#: body, and Java's HttpClient makes it with the first request of each connection: the parser must not see it.
_OFFER = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_OFFERED_WITHIN = 4096  # bytes: a search of all that a photo comes with would cost more than the rest


class Connection(HttpToolsProtocol):
    """``connections`` of uvicorn's server state are the others."""

    def __init__(self, *, metrics: Metrics, max_connections: int, **given: Any) -> None:
        super().__init__(**given)
        self._metrics = metrics
        self._max_connections = max_connections
        self._running: RequestResponseCycle | None = None  # the request whose answer is next, or was last
        self._beside_body = 0
        self._owing_since: float | None = None  # loop.time() since when the client owes a head or the end of a body
        self._unfetched: asyncio.TimerHandle | None = None
        self._deaf = False  # what still comes is no request

    @property
    def idle(self) -> bool:
        """No request is being answered."""
        return self._running is None or self._running.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._make_room()
        self._close_at(self.loop.time() + self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn keeps it, and with it the connection's memory, after a reset
        self._fetched()
        # With a second request behind it, uvicorn tells only that one.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._beside_body += len(data)
        if self._deaf:
            return
        if self.idle and b"pgrade:" in data[:_OFFERED_WITHIN].lower():
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _OFFER.sub(b"\r\nx-declined:", head) + end + rest
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # CONNECT, or an offer that was not seen whole. It is answered in HTTP/1.1 and is the last: the parser sees
            # no body of it, and would take one for the next request.
            self._deaf = True
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            logger.debug("a request is not HTTP: %s", error)
            self._refuse(BadRequest("this is not HTTP/1.1"))
            return
        if self._beside_body > _MAX_BYTES_BESIDE_BODY:
            self._refuse(HeadersTooLarge(f"the request's headers are larger than {MAX_HEADER_BYTES} bytes"))
        elif self.idle:
            self._expect_progress()
        else:
            self._owing_since = None

    def on_headers_complete(self) -> None:
        self._beside_body = 0
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError("too many requests ahead of their answers")  # to the parser, which stops
        if self.url[:1] != b"/" and self.parser.get_method() == b"CONNECT":
            self.url = b"/"  # host:port is no path; the application refuses the method
        super().on_headers_complete()
        self.headers = []  # what is appended from now on are trailers: they must not become headers
        if not self.cycle.keep_alive:
            self.cycle.transport = self  # type: ignore[assignment]  # all that a cycle does with it follows

    def on_body(self, body: bytes) -> None:
        self._beside_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._beside_body = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._fetch_soon()
        elif self.idle and self.cycle.more_body:
            self._owing_since = None
            self._expect_progress()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._fetch_soon()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._fetched()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # close() would wait until the client has fetched it
        else:
            super().timeout_keep_alive_handler()

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def close(self) -> None:
        """After the last answer. While the body of its request still comes, it closes our side alone."""
        if self.cycle.more_body:
            self.transport.write_eof()
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _make_room(self) -> None:
        """Close one connection that nobody is being answered on; this one if there is none."""
        others = (other for other in self.connections if other is not self and isinstance(other, Connection))
        superfluous = next((other for other in others if other.idle), self)
        superfluous.transport.abort()

    def _expect_progress(self) -> None:
        if self._owing_since is None:
            self._owing_since = self.loop.time()
        self._close_at(self._owing_since + HEAD_TIMEOUT_S)

    def _close_at(self, when: float) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_at(when, self.timeout_keep_alive_handler)

    def _fetch_soon(self) -> None:
        self._fetched()
        self._unfetched = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _fetched(self) -> None:
        if self._unfetched is not None:
            self._unfetched.cancel()
            self._unfetched = None

    def _refuse(self, error: ServiceError) -> None:
        """Answer what the parser does not take, and close: what follows it cannot be understood."""
        running = self._running
        if running is not None and not running.response_complete:
            if not running.more_body:
                # A request before it. Its answer comes first, and is the last.
                self.pipeline.clear()
                running.keep_alive = False
                return
            if running.response_started:
                self.transport.close()
                return
        elif running is not None and running.more_body:
            self.transport.close()  # the rest of a body whose request has its answer
            return
        answer = problems.refuse(error, self._metrics)
        headers = (
            *self.server_state.default_headers,
            *answer.raw_headers,
            *SECURITY_HEADERS,
            (b"connection", b"close"),
        )
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join((STATUS_LINE[error.status], *lines, b"\r\n", answer.body)))
        self.transport.close()


def protocol(metrics: Metrics, *, max_connections: int) -> type[asyncio.Protocol]:
    """``Connection`` as ``uvicorn.Config(http=…)`` takes it."""
    return cast(type[asyncio.Protocol], partial(Connection, metrics=metrics, max_connections=max_connections))
