"""Request bodies that were sent with ``Content-Encoding: gzip`` or ``deflate``, inflated as they arrive.

A few bytes can stand for gigabytes, so every piece that is inflated is small, and counted before the next one is made.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from service.errors import BadRequest, BodyTooLarge, UnsupportedCoding
from service.http.parameters import escaped

_PIECE_BYTES = 2**15
#: A gzip body may be several streams, one behind the other (RFC 1952, section 2.2). Empty ones take time, too.
_MAX_STREAMS = 1000

_GZIP, _ZLIB, _RAW = 31, 15, -15  # window sizes, by which zlib chooses the container


def coding_of(values: Sequence[str]) -> str | None:
    """The coding that these values of Content-Encoding name; None: identity. Raises UnsupportedCoding."""
    names = [name.strip(" \t") for name in ",".join(values).lower().split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if names not in ([], ["gzip"], ["x-gzip"], ["deflate"]):
        what = f"Content-Encoding {escaped(', '.join(names))} is not supported"
        raise UnsupportedCoding(f"{what}: send the body without one, or with gzip or deflate, once")
    return names[0] if names else None


class Inflater:
    """Inflates one body. Raises BodyTooLarge, and BadRequest if the body is corrupt or truncated."""

    def __init__(self, coding: str, max_bytes: int, on_growth: Callable[[int], object]) -> None:
        """``coding`` is one of ``coding_of``; ``on_growth`` is told each new size of the inflated body."""
        self._coding = coding
        self._max_bytes = max_bytes
        self._on_growth = on_growth
        self._size = self._streams = 0
        self._stream: Any = None  # zlib's type has no name

    def __call__(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """``pieces``, which are small, inflated to pieces of at most 32 KiB."""
        for data in pieces:
            full = True  # zlib may hold back bytes behind a piece that was full
            while data or full:
                if self._stream is None or (data and self._stream.eof):
                    self._stream = self._next_stream(data)
                try:
                    piece = self._stream.decompress(data, _PIECE_BYTES)
                except zlib.error:
                    what = f"the body is not valid {self._coding} data, as Content-Encoding says"
                    raise BadRequest(f"{what}: compress it, or leave that header out") from None
                self._size += len(piece)
                if self._size > self._max_bytes:
                    raise BodyTooLarge(f"the body is larger than {self._max_bytes} bytes when it is inflated")
                self._on_growth(self._size)
                full = len(piece) == _PIECE_BYTES
                data = self._stream.unused_data or self._stream.unconsumed_tail
                yield piece

    def finish(self) -> None:
        if self._stream is not None and not self._stream.eof:
            raise BadRequest(f"the body is truncated: its {self._coding} data has no end")

    def _next_stream(self, data: bytes) -> Any:
        self._streams += 1
        if self._streams > (1 if self._coding == "deflate" else _MAX_STREAMS):
            raise BadRequest(f"the body goes on after the end of its {self._coding} data")
        if self._coding != "deflate":
            return zlib.decompressobj(_GZIP)
        # Some clients send raw deflate data. No compressor begins it with these bits (RFC 1951, section 3.2.4).
        return zlib.decompressobj(_ZLIB if data[0] & 0x0F == 8 else _RAW)
