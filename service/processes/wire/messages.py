"""The messages between a worker and an engine over their socket: fixed-size records, many per packet, no pickle.

    worker ─► HELLO (with the slots' descriptor), INFER, CANCEL, PROBE       engine ─► DONE, STATE

``SOCK_SEQPACKET`` keeps packets whole. A worker has at most one INFER and one CANCEL under way per slot, so the buffer
of a socket cannot fill up and neither side ever blocks in a send.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict
from enum import IntEnum
from typing import NamedTuple

from service.engine.client import Readiness, RuntimeInfo, expired, refusal
from service.errors import InferenceFailed, NotReady, ServiceError, UnknownModel
from service.processes.wire.slots import Layout

#: Bytes of the longest packet: a state, or 1,000 records.
MAX_PACKET = 1 << 16

_HELLO = struct.Struct("<c5I")
_REQUEST = struct.Struct("<cxxxIId")  # kind, slot, ticket, deadline
_DONE = struct.Struct("<cBHIIf")  # kind, status, batch size, slot, ticket, infer seconds

HELLO, INFER, CANCEL, PROBE, DONE, STATE = b"H", b"I", b"C", b"P", b"D", b"S"


class ItemStatus(IntEnum):
    """The result of one image; only OK comes with outputs."""

    OK = 0
    DROPPED = 1  # cancelled before it ran
    EXPIRED = 2
    FAILED = 3
    DRAINING = 4
    NOT_READY = 5
    UNKNOWN_MODEL = 6


#: What the worker raises; the engine's own message is not transmitted.
_ERRORS: dict[ItemStatus, Callable[[], ServiceError]] = {
    ItemStatus.EXPIRED: expired,
    ItemStatus.FAILED: lambda: InferenceFailed("the model could not process this image"),
    ItemStatus.DRAINING: lambda: refusal("closed"),
    ItemStatus.NOT_READY: lambda: NotReady("the model does not answer"),
    ItemStatus.UNKNOWN_MODEL: lambda: UnknownModel("this model is not served here"),
}
_STATUS_OF = {type(error()): status for status, error in _ERRORS.items()}


class Request(NamedTuple):
    kind: bytes
    slot: int
    ticket: int  # distinguishes successive images in one slot
    deadline: float  # time.monotonic() seconds: the same clock in all processes of a machine


class Done(NamedTuple):
    status: ItemStatus
    batch_size: int
    slot: int
    ticket: int
    infer_s: float


def hello(layout: Layout) -> bytes:
    return _HELLO.pack(HELLO, *layout)


def read_hello(packet: bytes) -> Layout:
    """ValueError if the packet is not a HELLO."""
    if len(packet) != _HELLO.size or packet[:1] != HELLO:
        raise ValueError("its first packet is not a HELLO")
    _, *numbers = _HELLO.unpack(packet)
    return Layout(*numbers)


def request(kind: bytes, slot: int, ticket: int, deadline: float = 0.0) -> bytes:
    return _REQUEST.pack(kind, slot, ticket, deadline)


def read_requests(packet: bytes) -> Iterator[Request]:
    return map(Request._make, _REQUEST.iter_unpack(packet))


def done(answer: Done) -> bytes:
    return _DONE.pack(DONE, *answer)


def read_done(packet: bytes) -> Iterator[Done]:
    for _, status, *rest in _DONE.iter_unpack(packet):
        yield Done(ItemStatus(status), *rest)


def state(readiness: Readiness) -> bytes:
    return STATE + json.dumps(asdict(readiness)).encode()


def read_state(packet: bytes) -> Readiness:
    fields = json.loads(packet[1:])
    if (info := fields.pop("info")) is not None:
        cost = {int(size): seconds for size, seconds in info.pop("batch_cost_seconds").items()}
        info = RuntimeInfo(**info, batch_cost_seconds=cost)
    return Readiness(**fields, info=info)


def status_of(error: ServiceError) -> ItemStatus:
    return _STATUS_OF.get(type(error), ItemStatus.FAILED)


def error_of(status: ItemStatus) -> ServiceError:
    return _ERRORS.get(status, _ERRORS[ItemStatus.FAILED])()
