"""A multipart form, parsed as it arrives: its ``file`` parts are images; parts of other names are skipped, not kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequest

#: The name of the form field that carries images.
FIELD = "file"

#: Parts that are not images cost time, too.
_MAX_OTHER_PARTS = 64
_MAX_PART_HEADER_BYTES = 4096


class Form:
    """Collects the ``file`` parts that the incremental parser reports. Raises BadRequest for what is no such form."""

    def __init__(self, media_type: bytes, options: Mapping[bytes, bytes], max_images: int) -> None:
        """``media_type`` and ``options`` are those of the request's Content-Type."""
        if media_type != b"multipart/form-data":
            raise BadRequest("multipart/form-data is the only multipart type that is supported")
        boundary = options.get(b"boundary", b"")
        if not 1 <= len(boundary) <= 70:  # RFC 2046, section 5.1.1
            raise BadRequest("the multipart form has no valid boundary")
        self._images: list[bytes] = []
        self._max_images = max_images
        self._other_parts = 0
        self._chunks: list[bytes] | None = None  # of the current part; None: it is skipped
        self._header_name = b""
        self._header_value = b""
        self._header_bytes = 0
        self._name = b""
        self._complete = False
        # The type stubs require every callback; the parser accepts any subset.
        callbacks: Any = {name.removeprefix("_"): getattr(self, name) for name in dir(self) if name.startswith("_on_")}
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
