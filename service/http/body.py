"""The request body as images: raw bytes, or the ``file`` parts of a multipart form, read as they arrive.

The limit on bytes also holds for a body without a declared length, which is refused once it has exceeded the limit.
Parts with other names are skipped and not stored.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.types import Receive

from service.errors import BadRequest, BodyTooLarge

#: The name of the form field that carries images.
FIELD = "file"

#: Parts that are not images cost time, too.
_MAX_OTHER_PARTS = 64
_MAX_PART_HEADER_BYTES = 4096
#: The form is parsed in pieces of this size, so that other requests get their turn: a piece of repeated starts of
#: boundaries, the worst case, takes 5 ms.
_FORM_PIECE_BYTES = 2**15
_LENGTH = re.compile(r"\d{1,20}", re.ASCII)


class ClientGone(Exception):
    """The client closed the connection before the request was answered."""


async def read_images(headers: Headers, receive: Receive, *, max_bytes: int, max_images: int) -> list[bytes]:
    """Every image of the request, in the order sent.

    Raises BadRequest (empty body, no ``file`` part, malformed form), BodyTooLarge, or ClientGone.
    """
    media_type, options = parse_options_header(headers.get("content-type"))
    if not media_type.startswith(b"multipart/"):
        body = await _read_raw(receive, max_bytes)
        if not body:
            raise BadRequest("the body is empty: send an image, or a multipart form with parts named 'file'")
        return [body]
    form = _Form(_boundary(media_type, options), max_images)
    await _stream(receive, max_bytes, form.feed, _FORM_PIECE_BYTES)
    return form.finish()


def declared_length(headers: Headers) -> int | None:
    """The value of Content-Length; None without one (chunked). Raises BadRequest if it is not a number."""
    declared = headers.get("content-length")
    if declared is None:
        return None
    if not _LENGTH.fullmatch(declared):
        raise BadRequest("Content-Length is not a number")
    return int(declared)


async def _read_raw(receive: Receive, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    await _stream(receive, max_bytes, chunks.append)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _stream(receive: Receive, max_bytes: int, feed: Callable[[bytes], object], piece: int = 2**30) -> None:
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if chunk := message.get("body", b""):
            total += len(chunk)
            if total > max_bytes:
                raise BodyTooLarge.over(max_bytes)
            for at in range(0, len(chunk), piece):
                feed(chunk[at : at + piece])
                if at + piece < len(chunk):
                    await asyncio.sleep(0)
        if not message.get("more_body", False):
            return


def _boundary(media_type: bytes, options: Mapping[bytes, bytes]) -> bytes:
    if media_type != b"multipart/form-data":
        raise BadRequest("multipart/form-data is the only multipart type that is supported")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, section 5.1.1
        raise BadRequest("the multipart form has no valid boundary")
    return boundary


class _Form:
    """Collects the ``file`` parts that the incremental parser reports."""

    def __init__(self, boundary: bytes, max_images: int) -> None:
        self._images: list[bytes] = []
        self._max_images = max_images
        self._other_parts = 0
        self._chunks: list[bytes] | None = None  # of the current part; None: it is skipped
        self._complete = False
        self._on_part_begin()
        # The type stubs require every callback; the parser accepts any subset.
        callbacks: Any = {name[1:]: getattr(self, name) for name in dir(self) if name.startswith("_on_")}
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise BadRequest("the multipart form is malformed") from None

    def finish(self) -> list[bytes]:
        if not self._complete:
            raise BadRequest("the multipart form ends before its last boundary")
        if not self._images:
            raise BadRequest(f"the multipart form has no part named '{FIELD}'")
        return self._images

    def _on_part_begin(self) -> None:
        self._header_bytes = 0
        self._header_name = self._header_value = self._name = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_PART_HEADER_BYTES:
            raise BadRequest("the headers of a multipart part are too large")

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._name = options.get(b"name", b"")
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        if self._name == FIELD.encode():
            if len(self._images) == self._max_images:
                many = f"{self._max_images} image{'s' * (self._max_images > 1)}"
                raise BadRequest(f"more than {many} in one request")
            self._chunks = []
            return
        self._chunks = None
        self._other_parts += 1
        if self._other_parts > _MAX_OTHER_PARTS:
            raise BadRequest(f"more than {_MAX_OTHER_PARTS} parts that are not named '{FIELD}'")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._chunks is not None:
            self._chunks.append(data[start:end])

    def _on_part_end(self) -> None:
        if self._chunks is not None:
            self._images.append(b"".join(self._chunks))

    def _on_end(self) -> None:
        self._complete = True
