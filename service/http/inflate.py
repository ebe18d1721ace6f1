"""Request bodies that were sent with ``Content-Encoding: gzip`` or ``deflate``, inflated as they arrive.

    ASGI receive ─► inflated: a receive whose messages are small ─► form or image

A few bytes can stand for gigabytes. So nothing is inflated before the bytes in front of it were taken and counted.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from starlette.types import Message, Receive

from service.errors import BadRequest, BodyTooLarge, UnsupportedCoding
from service.http.parameters import escaped

#: At most so many bytes are inflated, and at most so many result, before other requests get their turn.
_PIECE_BYTES = 2**15
#: A gzip file may be several, one behind the other (RFC 1952, section 2.2). Empty ones take 20 bytes and 10 µs each.
_MAX_STREAMS = 1000

_GZIP, _ZLIB, _RAW = 31, 15, -15  # window sizes, by which zlib chooses the container


def inflated(receive: Receive, codings: Sequence[str], max_bytes: int, on_growth: Callable[[int], object]) -> Receive:
    """``receive`` for a body under these values of Content-Encoding; ``on_growth`` is told each new inflated size.

    Raises UnsupportedCoding. The new ``receive`` raises BodyTooLarge if the body has more than ``max_bytes`` bytes,
    before or after it is inflated, and BadRequest if it is corrupt or truncated.
    """
    names = [name for coding in ",".join(codings).lower().split(",") if (name := coding.strip(" \t"))]
    names = [name for name in names if name != "identity"]
    if not names:
        return receive
    if len(names) > 1 or names[0] not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedCoding(
            f"Content-Encoding {escaped(', '.join(names))} is not supported: send the body without one, or with gzip "
            "or deflate, once"
        )
    return _messages(receive, _Inflater(names[0]), max_bytes, on_growth).__anext__


async def _messages(
    receive: Receive, inflater: _Inflater, max_bytes: int, on_growth: Callable[[int], object]
) -> AsyncIterator[Message]:
    received = size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            yield message
        data, more = message.get("body", b""), message.get("more_body", False)
        received += len(data)
        for at in range(0, len(data), _PIECE_BYTES):
            for piece in inflater.feed(data[at : at + _PIECE_BYTES]):
                size += len(piece)
                if max(received, size) > max_bytes:
                    raise BodyTooLarge(f"the body is larger than {max_bytes} bytes when it is decompressed")
                on_growth(size)
                yield {"type": "http.request", "body": piece, "more_body": True}
                await asyncio.sleep(0)
    inflater.finish()
    yield {"type": "http.request", "body": b"", "more_body": False}


class _Inflater:
    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream: Any = None  # zlib's type has no name
        self._streams = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` becomes, in pieces; each step takes little time."""
        full = True  # zlib may hold back bytes of a piece that was full
        while data or full:
            if self._stream is None or (data and self._stream.eof):
                self._stream = self._next_stream(data)
            try:
                piece = self._stream.decompress(data, _PIECE_BYTES)
            except zlib.error:
                raise BadRequest(
                    f"the body is not valid {self._coding} data, as Content-Encoding says: compress it, or leave that "
                    "header out"
                ) from None
            full = len(piece) == _PIECE_BYTES
            data = self._stream.unused_data or self._stream.unconsumed_tail
            yield piece

    def _next_stream(self, data: bytes) -> Any:
        self._streams += 1
        if self._streams > (1 if self._coding == "deflate" else _MAX_STREAMS):
            raise BadRequest(f"the body goes on after the end of its {self._coding} data")
        if self._coding != "deflate":
            return zlib.decompressobj(_GZIP)
        # Some clients send raw deflate data. No compressor begins it with these bits (RFC 1951, section 3.2.4).
        return zlib.decompressobj(_ZLIB if data[0] & 0x0F == 8 else _RAW)

    def finish(self) -> None:
        if self._stream is not None and not self._stream.eof:
            raise BadRequest(f"the body is truncated: its {self._coding} data has no end")
