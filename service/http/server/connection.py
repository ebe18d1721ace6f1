"""One client connection: uvicorn's protocol over httptools, with limits that uvicorn does not have.

Bytes come from the socket; complete requests go to the application. There are limits on the time and size of a
request's head, on pipelined requests, on bodies that continue after a refusal, on answers that the client does not
read, and on the number of connections. Input that is not HTTP gets a problem document like every other error.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import httptools
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.errors import BadRequest, HeadersTooLarge, ServiceError
from service.http import problems
from service.http.middleware import MAX_HEADER_BYTES, SECURITY_HEADERS
from service.metrics import Metrics

logger = logging.getLogger(__name__)

#: Time limit for receiving a request's head. Also how long a refused body may continue: closing at once would send a
#: reset, and the client might never see the error.
HEAD_TIMEOUT_S = 10.0

#: Longest time for fetching an answer, which occupies memory; an idle connection does not.
_UNREAD_TIMEOUT_S = 75.0

#: Consecutive bytes that are not part of a body: a head, trailers, chunk extensions. More than ``HeaderLimit`` allows,
#: which refuses heads that arrive completely.
_MAX_BYTES_BESIDE_BODY = 4 * MAX_HEADER_BYTES

#: 256 KB can hold ten thousand pipelined requests, and each takes kilobytes while it waits.
_MAX_PIPELINED = 16

#: Offers of another protocol are declined by hiding the header from the parser: httptools assumes that a request with
#: it has no body, and Java's HttpClient sends it with the first request of each connection.
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_UPGRADE_WITHIN = 4096  # bytes: searching all of a photo's request would cost more than the rest


class Connection(HttpToolsProtocol):
    """``connections``, inherited, are all connections of the server."""

    def __init__(self, *, metrics: Metrics, max_connections: int, **uvicorn_arguments: Any) -> None:
        super().__init__(**uvicorn_arguments)
        self._metrics = metrics
        self._max_connections = max_connections
        self.idle = True  # no request is being answered
        self._running: RequestResponseCycle | None = None  # the request being answered, or the last one answered
        self._beside_body = 0
        self._expecting_since: float | None = None  # loop.time(): waiting for the rest of a head or of a refused body
        self._unread_timer: asyncio.TimerHandle | None = None
        self._ignore_input = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._make_room()
        self._close_at(self.loop.time() + self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # after a reset uvicorn's timer would keep the connection's memory
        self._stop_unread_timer()
        # If another request is queued behind it, uvicorn notifies only that one.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._beside_body += len(data)
        if self._ignore_input:
            return
        if self.idle and b"pgrade:" in data[:_UPGRADE_WITHIN].lower():
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"\r\nx-declined:", head) + end + rest
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # CONNECT, or an Upgrade header split between two packets. This request is answered in HTTP/1.1 and is the
            # last: the parser ignores its body and would take it for the next request.
            self._ignore_input = True
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            logger.debug("a request is not HTTP: %s", error)
            self._refuse(BadRequest("this is not a valid HTTP/1.1 request"))
            return
        if self._beside_body > _MAX_BYTES_BESIDE_BODY:
            self._refuse(HeadersTooLarge(f"the request's headers are larger than {MAX_HEADER_BYTES} bytes"))
        elif self.idle:
            self._expect_progress()
        else:
            self._expecting_since = None

    def on_headers_complete(self) -> None:
        self._beside_body = 0
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError("too many pipelined requests")  # stops the parser
        if self.url[:1] != b"/" and self.parser.get_method() == b"CONNECT":
            self.url = b"/"  # host:port is not a path; the application refuses the method
        super().on_headers_complete()
        self.headers = []  # uvicorn appends trailers here: they must not become headers
        if not self.cycle.keep_alive or self.cycle.waiting_for_100_continue:
            self.cycle.transport = self  # type: ignore[assignment]  # a cycle uses only write, is_closing and close

    def on_body(self, body: bytes) -> None:
        self._beside_body = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        self.idle = True  # unless the next line begins a request that was pipelined
        super().on_response_complete()
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._start_unread_timer()
        elif self.idle and self.cycle.more_body:
            self._expecting_since = None
            self._expect_progress()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_unread_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread_timer()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # close() would wait until the client has read it
        else:
            super().timeout_keep_alive_handler()

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def close(self) -> None:
        """Called after the last answer. While its request's body still arrives, close only our direction."""
        if self.cycle.more_body:
            self.transport.write_eof()
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running, self.idle = cycle, False
        super()._start_asgi_task(cycle, _closing(cycle, app) if cycle.waiting_for_100_continue else app)

    def _make_room(self) -> None:
        """Close an idle connection, or this one if none is idle."""
        others = (other for other in self.connections if other is not self and isinstance(other, Connection))
        victim = next((other for other in others if other.idle), self)
        victim.transport.abort()

    def _expect_progress(self) -> None:
        if self._expecting_since is None:
            self._expecting_since = self.loop.time()
        self._close_at(self._expecting_since + HEAD_TIMEOUT_S)

    def _close_at(self, when: float) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_at(when, self.timeout_keep_alive_handler)

    def _start_unread_timer(self) -> None:
        self._stop_unread_timer()
        self._unread_timer = self.loop.call_later(min(self.timeout_keep_alive, _UNREAD_TIMEOUT_S), self.transport.abort)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _refuse(self, error: ServiceError) -> None:
        """Answer input that the parser rejects and close the connection: what follows cannot be parsed."""
        running = self._running
        if running is not None and not running.response_complete:
            if not running.more_body:
                # The answer to the request before it is sent first and is the last.
                self.pipeline.clear()
                running.keep_alive = False
                return
            if running.response_started:
                self.transport.close()
                return
        elif running is not None and running.more_body:
            self.transport.close()  # the rest of a body whose request was answered
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


def _closing(cycle: RequestResponseCycle, app: Any) -> Any:
    """``app``, but an answer to ``Expect: 100-continue`` that was given without asking for the body is the last.

    Whether the body follows all the same only its client knows; some send the next request instead (RFC 9110, section
    10.1.1; golang/go#67555).
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start" and cycle.waiting_for_100_continue and cycle.more_body:
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, send_last)

    return answer
