"""A multipart form, parsed as it arrives.

A part is an image if it has a file name, an ``image/*`` type, or is called ``file``. All other parts are parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequest
from service.http.parameters import escaped

#: The end of a sentence about what was sent instead.
HOW_TO_SEND = "send an image's bytes (curl --data-binary @photo.jpg) or a form with a file (curl -F file=@photo.jpg)"

#: Parts that are not images cost time, too.
_MAX_OTHER_PARTS = 64
_MAX_PART_HEADER_BYTES = 4096
_MAX_PARAMETER_BYTES = 512


class Form:
    """Collects the parts that the incremental parser reports. Raises BadRequest for what is no such form."""

    def __init__(self, media_type: bytes, options: Mapping[bytes, bytes], max_images: int) -> None:
        """``media_type`` and ``options`` are those of the request's Content-Type."""
        if media_type != b"multipart/form-data":
            raise BadRequest("multipart/form-data is the only multipart type that is supported")
        boundary = options.get(b"boundary", b"")
        if not 1 <= len(boundary) <= 70:  # RFC 2046, section 5.1.1
            raise BadRequest("Content-Type has no valid boundary: leave the header to your HTTP client, which adds one")
        self._images: list[bytes] = []
        self._parameters: dict[str, str] = {}
        self._max_images = max_images
        self._other_parts = 0
        self._empty, self._begun, self._complete = True, False, False
        self._start_part()
        # The type stubs require every callback; the parser accepts any subset.
        callbacks: Any = {name.removeprefix("_"): getattr(self, name) for name in dir(self) if name.startswith("_on_")}
        # Its own limit is for one header and gives no reason; a part's header is at most a chunk before it is counted.
        self._parser = MultipartParser(boundary, callbacks, max_header_size=2**30)

    def feed(self, chunk: bytes) -> None:
        self._empty = False
        try:
            self._parser.write(chunk)
        except FormParserError:
            start = f"the body does not begin with the form boundary that Content-Type names: {HOW_TO_SEND}"
            raise BadRequest("the multipart form is malformed" if self._begun else start) from None

    def finish(self) -> tuple[list[bytes], dict[str, str]]:
        """The images in the order sent, and the parameters; the last value if a name is repeated."""
        if self._empty:
            raise BadRequest(f"the body is empty: {HOW_TO_SEND}")
        if not self._complete:
            raise BadRequest("the multipart form ends before its last boundary")
        if not self._images:
            raise BadRequest("the multipart form has no image: send it as a file (curl -F file=@photo.jpg)")
        return self._images, self._parameters

    def _on_part_begin(self) -> None:
        self._begun = True
        self._start_part()

    def _start_part(self) -> None:
        self._chunks: list[bytes] = []
        self._size = self._header_bytes = 0
        self._header_name = self._header_value = self._name = b""
        self._file_name: bytes | None = None
        self._is_image = False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_PART_HEADER_BYTES:
            raise BadRequest(f"a part's headers, such as its file name, are over {_MAX_PART_HEADER_BYTES} bytes")

    def _on_header_end(self) -> None:
        name, value = self._header_name.lower(), self._header_value
        if name == b"content-disposition":
            _, options = parse_options_header(value)
            self._name = options.get(b"name", b"")
            # Old clients send names that are not ASCII in the extended form only, which the parser leaves out.
            self._is_image |= b"filename*=" in value.lower()
            self._file_name = options.get(b"filename")
        elif name == b"content-type":
            self._is_image |= value.strip().lower().startswith(b"image/")
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        self._is_image |= self._file_name is not None or self._name == b"file"

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])
        self._size += end - start
        if not self._is_image and self._size > _MAX_PARAMETER_BYTES:
            raise self._no_parameter()

    def _on_part_end(self) -> None:
        value = b"".join(self._chunks)
        if self._is_image and (value or self._file_name != b""):
            if len(self._images) == self._max_images:
                many = f"{self._max_images} image{'s' * (self._max_images > 1)}"
                raise BadRequest(f"more than {many} in one request")
            self._images.append(value)
            return
        self._other_parts += 1
        if self._other_parts > _MAX_OTHER_PARTS:
            raise BadRequest(f"more than {_MAX_OTHER_PARTS} parts that are not images")
        if not self._is_image:  # one that is, is a file field of a web form in which no file was chosen
            try:
                self._parameters[self._name.decode(errors="backslashreplace")] = value.decode()
            except UnicodeDecodeError:
                raise self._no_parameter() from None

    def _no_parameter(self) -> BadRequest:
        return BadRequest(
            f"the part {escaped(self._name.decode(errors='backslashreplace'))} is no image, which has a file name "
            "(curl -F file=@photo.jpg) or an image/* type, and no parameter, which is UTF-8 text of at most "
            f"{_MAX_PARAMETER_BYTES} bytes"
        )

    def _on_end(self) -> None:
        self._complete = True
