"""One inference request over HTTP: ``serving.intake`` fed from an ASGI request and its body.

    head ─► parameters ─► version ─► admit ─► read the body ─► inspect ─► (the endpoint infers, encodes) ─► given back

The body is an image's bytes or a multipart form (``form``), read as it arrives; ``inflate`` undoes its compression. The
byte limit holds while streaming: a larger declared length is refused before anything is read, and a body without a
length is cut off at the limit.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, NamedTuple, TypeVar

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from service.engine.client import Priority
from service.errors import BadRequest, BodyTooLarge, DeadlineExceeded, InvalidParameter
from service.http.form import HOW_TO_SEND, Form
from service.http.inflate import Inflater, coding_of
from service.http.middleware import KEY_OWNER
from service.http.parameters import Parameters
from service.metrics import Metrics
from service.serving.admission import body_weight
from service.serving.intake import Intake, Photo, Served, StageTimes
from service.serving.registry import Registry, ServedModel, Wish

TIMEOUT_HEADER = "x-request-timeout-ms"
SPLIT_HEADER = "x-split-key"
#: A form is parsed, and a compressed body inflated, in pieces of this size, so that other requests get their turn: a
#: piece of repeated starts of boundaries, the worst case, takes 5 ms.
_PIECE_BYTES = 2**15
_LENGTH = re.compile(r"\d{1,20}", re.ASCII)
#: Parameters that choose the version. It is chosen before the body is read.
_SELECTORS = {"version", "alias"}
#: How a form begins that was sent under another Content-Type, for which curl calls its parts attachments.
_FORM = re.compile(rb"\s{0,9}--[^\r\n]{1,70}\r?\n(?:[^\r\n]{1,999}\r?\n){0,9}?content-disposition:", re.I)

_Plan = TypeVar("_Plan")


class ClientGone(Exception):
    """The client closed the connection before the request was answered."""


class Admitted(NamedTuple, Generic[_Plan]):
    """A request whose body was read."""

    model: ServedModel
    served: Served  # the version that answers
    photos: list[Photo]
    deadline: float  # in time.monotonic() seconds
    parameters: Parameters
    plan: _Plan  # what ``parameters`` ask for
    priority: Priority


class Exchange(NamedTuple):
    """Shared by the inference endpoints."""

    registry: Registry
    intake: Intake
    metrics: Metrics
    max_images: int

    @asynccontextmanager
    async def admitted(
        self,
        scope: Scope,
        receive: Receive,
        times: StageTimes,
        make_plan: Callable[[Served, Parameters], _Plan],
        *,
        vectors: bool = False,
        max_images: int | None = None,
        extra_units: int = 0,
    ) -> AsyncIterator[Admitted[_Plan]]:
        """The request's photos and its plan; permit and version are held while the block runs.

        ``make_plan`` checks the query before anything is read, and once more with the parameters of a form, or if the
        body has chosen another version. ``vectors``: see ``_wish``.
        Raises ServiceError if the whole request fails, ClientGone if the client has disconnected.
        """
        headers, started = Headers(scope=scope), time.monotonic()
        parameters = Parameters(scope["query_string"])
        name = scope.get("path_params", {}).get("name")
        model = self.registry.default if name is None else self.registry.named(name)
        lease = model.lease(_wish(scope, headers, parameters, vectors=vectors))
        plan = make_plan(lease.served, parameters)
        deadline = self.intake.deadline(_timeout_ms(headers))
        priority, length = _priority(headers), declared_length(headers)
        with lease, self.intake.admit(length, deadline, _client(scope), extra_units, priority) as permit:
            most = max_images or self.max_images

            def widen(body_bytes: int) -> None:
                permit.widen(body_weight(body_bytes) + extra_units)

            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    images, fields = await read_body(headers, receive, self.intake.max_body_bytes, most, widen)
            except (TimeoutError, ClientGone) as error:
                # No answer reports this time, but the histogram should show slow clients.
                lease.served.metrics.stages["read"].observe(time.monotonic() - started)
                if isinstance(error, ClientGone):
                    raise
                raise DeadlineExceeded("the deadline passed before the body had arrived") from None
            times.add(read=time.monotonic() - started)
            if late := _SELECTORS & (fields.keys() - parameters.values.keys()):
                raise InvalidParameter(f"{', '.join(sorted(late))}: belongs into the query, not into the form")
            parameters.values = fields | parameters.values  # the query has precedence
            if (lease.split is not None and lease.decide(images[0])) or fields:
                plan = make_plan(lease.served, parameters)
            photos = await self.intake.inspect(lease.served, images, permit, deadline, extra_units)
            yield Admitted(model, lease.served, photos, deadline, parameters, plan, priority)


@asynccontextmanager
async def cancelled_by_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel the enclosed work when the client disconnects, and raise ClientGone instead."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise ClientGone from None
    finally:
        watcher.cancel()


def _wish(scope: Scope, headers: Headers, parameters: Parameters, *, vectors: bool) -> Wish:
    """``vectors``: the answer holds some, so the canary may not answer by chance, and ``Embedding-Id`` chooses."""
    return Wish(
        version=parameters.text("version"),
        alias=parameters.text("alias"),
        embedding_ids=headers.getlist("embedding-id") if vectors else (),
        splits=not vectors,
        key=(headers.get(SPLIT_HEADER) or scope.get(KEY_OWNER) or "").encode(),
    )


def _timeout_ms(headers: Headers) -> int | None:
    """The client's own time limit, in milliseconds."""
    value = headers.get(TIMEOUT_HEADER)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 9 or int(value) == 0:
        raise InvalidParameter("X-Request-Timeout-Ms must be a positive whole number of milliseconds")
    return int(value)


def _priority(headers: Headers) -> Priority:
    return "low" if headers.get("x-priority", "").strip().lower() == "low" else "normal"


def _client(scope: Scope) -> str:
    """Whose share of the limit counts: the owner of the API key, else the address."""
    owner: str | None = scope.get(KEY_OWNER)
    return owner or (scope["client"][0] if scope.get("client") else "")


async def read_body(
    headers: Headers,
    receive: Receive,
    max_bytes: int,
    max_images: int,
    on_growth: Callable[[int], object] = lambda size: None,
) -> tuple[list[bytes], dict[str, str]]:
    """Every image of the request, in the order sent, and the parameters in its form.

    ``on_growth`` is told the size of a compressed body as it is inflated. Raises BadRequest (empty body, no image,
    malformed form), UnsupportedCoding, BodyTooLarge, or ClientGone.
    """
    codings = headers.getlist("content-encoding")
    coding = coding_of(codings) if codings else None
    inflater = Inflater(coding, max_bytes, on_growth) if coding else None
    media_type, options = parse_options_header(headers.get("content-type"))
    chunks: list[bytes] = []
    form = Form(media_type, options, max_images) if media_type.startswith(b"multipart/") else None
    raw = form is None and inflater is None
    await _stream(receive, max_bytes, form.feed if form else chunks.append, inflater, 2**30 if raw else _PIECE_BYTES)
    if inflater:
        inflater.finish()
    if form:
        return form.finish()
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if not body:
        raise BadRequest(f"the body is empty: {HOW_TO_SEND}")
    if _FORM.match(body):
        raise BadRequest(
            "the body is a multipart form, but its Content-Type is not: send multipart/form-data; boundary=…, as most "
            "HTTP clients do if you leave that header to them"
        )
    return [body], {}


def declared_length(headers: Headers) -> int | None:
    """The value of Content-Length; None without one (chunked). Raises BadRequest if it is not a number."""
    declared = headers.get("content-length")
    if declared is None:
        return None
    if not _LENGTH.fullmatch(declared):
        raise BadRequest("Content-Length is not a number")
    return int(declared)


async def _stream(
    receive: Receive, max_bytes: int, feed: Callable[[bytes], object], inflater: Inflater | None, piece_bytes: int
) -> None:
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if chunk := message.get("body", b""):
            total += len(chunk)
            if total > max_bytes:
                raise BodyTooLarge.over(max_bytes)
            pieces = (chunk[at : at + piece_bytes] for at in range(0, len(chunk), piece_bytes))
            for number, piece in enumerate(inflater(pieces) if inflater else pieces):
                if number:
                    await asyncio.sleep(0)
                feed(piece)
        if not message.get("more_body", False):
            return
