"""The engine's side of the wire: takes images from workers' slots into a ``LocalEngine``, writes outputs back.

    socket ─► loop thread: records ─► Batcher ─► runner thread: infer ─► slot, one packet a batch and worker ─► socket

A worker that goes takes its images with it; what was running for it is written into memory that nobody reads any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from service.batcher import Item
from service.engine.local import LocalEngine
from service.engine.protocols import InferResult, Readiness
from service.engine.runner import Answers
from service.errors import ServiceError
from service.image import Prepared
from service.ipc import messages
from service.ipc.arena import Arena, Layout
from service.ipc.messages import CANCEL, INFER, PROBE, Done, Request, Status

logger = logging.getLogger(__name__)

#: Readiness travels when it changes, and this often all the same: a worker that hears nothing looks elsewhere.
HEARTBEAT_S = 0.25
#: Packets of one worker before others get their turn.
_PACKETS_A_TURN = 16
_PEER = struct.Struct("3i")  # pid, uid, gid


@dataclass(eq=False, slots=True)
class _RemoteItem(Item):
    slot: int = 0
    ticket: int = 0


class EngineServer:
    """Serves ``engine`` on ``listener``, a SOCK_SEQPACKET Unix socket, to workers of the same user.

    ``layout`` is what the engine computes with; its ``slots`` are each worker's own choice. Used from one event loop.
    """

    def __init__(self, engine: LocalEngine, listener: socket.socket, layout: Layout) -> None:
        self._engine = engine
        self._listener = listener
        self._layout = layout
        self._connections: set[_Connection] = set()
        self._beats: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, then load the engine's model. Raises OperatorError as ``LocalEngine.start`` does."""
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        self._beats = asyncio.ensure_future(self._beat())
        await self._engine.start()

    async def aclose(self) -> None:
        """Answer everything that was taken, then hang up."""
        asyncio.get_running_loop().remove_reader(self._listener)
        await self._engine.aclose()
        if self._beats is not None:
            self._beats.cancel()
        for connection in list(self._connections):
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            accepted, _ = self._listener.accept()
            if _user(accepted) != os.geteuid():  # the name is everybody's
                accepted.close()
                return
            connection = _Connection(accepted, self._engine, self._layout, on_close=self._connections.discard)
            self._connections.add(connection)

    async def _beat(self) -> None:
        told, at = None, 0.0
        while True:
            state = self._engine.state
            if state != told or time.monotonic() - at > HEARTBEAT_S:
                told, at = state, time.monotonic()
                packet = messages.state(Readiness(state == "ready", state, self._engine.info))
                for connection in list(self._connections):
                    connection.send(packet)
            await asyncio.sleep(HEARTBEAT_S / 5)


class _Connection:
    """One worker. A sink of answers: ``deliver`` is called on runners' threads."""

    def __init__(
        self,
        accepted: socket.socket,
        engine: LocalEngine,
        layout: Layout,
        *,
        on_close: Callable[[_Connection], object],
    ) -> None:
        self._socket = accepted
        self._engine = engine
        self._layout = layout
        self._on_close = on_close
        self._arena: Arena | None = None
        self._items: dict[int, _RemoteItem] = {}  # by slot
        self._probe: asyncio.Task[None] | None = None
        accepted.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(accepted, self._readable)

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for item in self._items.values():
            item.cancelled = True
        self._items.clear()
        self._arena = None  # and with it a descriptor
        self._on_close(self)

    def send(self, packet: bytes) -> None:
        """From any thread. A worker that is gone is noticed by the loop."""
        with contextlib.suppress(OSError):
            self._socket.send(packet)

    def deliver(self, answers: Answers) -> None:
        """Write what was computed into its slots and say so, in one packet."""
        arena = self._arena
        if arena is None:
            return  # the worker is gone
        records = []
        for item, answer in answers:
            assert isinstance(item, _RemoteItem)
            if isinstance(answer, InferResult):
                arena.write(item.slot, answer.output)
                ended = Done(Status.OK, answer.batch_size, item.slot, item.ticket, answer.infer_s)
            else:
                status = Status.DROPPED if item.cancelled else messages.status_of(answer)
                ended = Done(status, 0, item.slot, item.ticket, 0.0)
            self._items.pop(item.slot, None)  # before the worker can use the slot again
            records.append(messages.done(ended))
        self.send(b"".join(records))

    def _readable(self) -> None:
        try:
            for _ in range(_PACKETS_A_TURN):
                if self._arena is None:
                    self._greet()
                elif packet := self._socket.recv(messages.MAX_PACKET):
                    for asked in messages.read_requests(packet):
                        self._take(asked)
                else:
                    self.close()
                    return
        except BlockingIOError:
            pass
        except (OSError, ValueError, struct.error) as error:
            if not isinstance(error, ConnectionError):
                logger.error("a worker was hung up on: %s", error)
            self.close()

    def _greet(self) -> None:
        """Take the worker's memory, if it is of this user and expects what the engine computes."""
        packet, descriptors, _, _ = socket.recv_fds(self._socket, messages.MAX_PACKET, 1)
        try:
            if not packet:
                raise ConnectionError("it went before it had spoken")
            self._arena = Arena(self._checked(packet, descriptors), os.dup(descriptors[0]))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _checked(self, packet: bytes, descriptors: list[int]) -> Layout:
        """The greeting's layout; ValueError if it is no worker's of this service."""
        found = messages.read_hello(packet)
        wanted = replace(self._layout, slots=found.slots)
        if len(descriptors) != 1 or found != wanted or not 1 <= found.slots <= 1 << 16:
            raise ValueError("it is no worker of this service")
        return found

    def _take(self, asked: Request) -> None:
        if asked.kind == INFER:
            self._infer(asked)
        elif asked.kind == CANCEL:
            item = self._items.get(asked.slot)
            if item is not None and item.ticket == asked.ticket:
                item.cancelled = True
        elif asked.kind == PROBE:
            if self._probe is None or self._probe.done():
                self._probe = asyncio.ensure_future(self._answer_probe())
        else:
            raise ValueError("it says what nobody understands")

    def _infer(self, asked: Request) -> None:
        assert self._arena is not None
        if asked.slot >= len(self._arena.images) or asked.slot in self._items:
            raise ValueError("it uses a slot that it does not have")
        side = self._layout.image_size
        request_id, classes = self._arena.asked(asked.slot)
        item = _RemoteItem(
            _decoded_already,
            asked.deadline,
            self,
            created_at=time.monotonic(),
            request_id=request_id,
            classes=classes,
            prepared=Prepared(self._arena.images[asked.slot], "jpeg", (), (side, side)),
            slot=asked.slot,
            ticket=asked.ticket,
        )
        self._items[asked.slot] = item
        try:
            self._engine.submit(item)
        except ServiceError as refused:
            self.deliver([(item, refused)])

    async def _answer_probe(self) -> None:
        self.send(messages.state(await self._engine.ready()))


def _user(peer: socket.socket) -> int:
    user: int
    _, user, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return user


def _decoded_already() -> NoReturn:
    raise AssertionError("a worker decodes what it sends")
