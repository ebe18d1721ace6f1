"""The engine's side of the wire: passes images from workers' slots to a ``LocalEngine`` and writes outputs back.

    socket ─► loop thread: records ─► Batcher ─► runner thread: infer ─► slot, one packet per batch and worker ─► socket

When a worker ends, its queued images are dropped. Outputs of those already running are discarded.
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
from dataclasses import dataclass

from service.engine.batcher import Answers, Item
from service.engine.client import InferResult, Readiness
from service.engine.local import LocalEngine
from service.errors import ServiceError
from service.processes.wire import messages
from service.processes.wire.messages import CANCEL, INFER, PROBE, Done, ItemStatus, Request
from service.processes.wire.slots import Layout, SlotMemory

logger = logging.getLogger(__name__)

#: Seconds between two readiness messages without a change; a worker avoids an engine that sends none.
HEARTBEAT_S = 0.25
#: Packets that are read from one worker before other connections are served.
_PACKETS_PER_CALL = 16
_PEER = struct.Struct("3i")  # pid, uid, gid


@dataclass(eq=False, slots=True, kw_only=True)
class _SlotItem(Item):
    """An item whose pixels are in a worker's slot."""

    slot: int
    ticket: int


class EngineServer:
    """Serves ``engine`` on ``listener``, a SOCK_SEQPACKET Unix socket, to workers of the same user.

    Workers must use ``layout``, except that each chooses its own number of ``slots``. Used from one event loop.
    """

    def __init__(self, engine: LocalEngine, listener: socket.socket, layout: Layout) -> None:
        self._engine = engine
        self._listener = listener
        self._layout = layout
        self._connections: set[_Connection] = set()
        self._heartbeats: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, then load the engine's model. Raises OperatorError as ``LocalEngine.start`` does."""
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        self._heartbeats = asyncio.ensure_future(self._send_states())
        await self._engine.start()

    async def aclose(self) -> None:
        """Answer all items in the engine, then close the connections."""
        asyncio.get_running_loop().remove_reader(self._listener)
        await self._engine.aclose()
        if self._heartbeats is not None:
            self._heartbeats.cancel()
        for connection in list(self._connections):
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            accepted, _ = self._listener.accept()
            _, user, _ = _PEER.unpack(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if user != os.geteuid():  # any user may connect to an abstract socket
                accepted.close()
                return
            self._connections.add(_Connection(accepted, self._engine, self._layout, self._connections.discard))

    async def _send_states(self) -> None:
        last_state, sent_at = None, 0.0
        while True:
            state = self._engine.state
            if state != last_state or time.monotonic() - sent_at > HEARTBEAT_S:
                last_state, sent_at = state, time.monotonic()
                packet = messages.state(Readiness(state == "ready", state, self._engine.info))
                for connection in list(self._connections):
                    connection.send(packet)
            await asyncio.sleep(HEARTBEAT_S / 5)


class _Connection:
    """One worker: the receiver of its items' answers."""

    def __init__(
        self, accepted: socket.socket, engine: LocalEngine, layout: Layout, on_close: Callable[[_Connection], object]
    ) -> None:
        self._socket = accepted
        self._engine = engine
        self._layout = layout
        self._on_close = on_close
        self._memory: SlotMemory | None = None
        self._items: dict[int, _SlotItem] = {}  # by slot
        self._probe: asyncio.Task[None] | None = None
        accepted.setblocking(False)
        asyncio.get_running_loop().add_reader(accepted, self._readable)

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        for item in self._items.values():
            item.cancelled = True
        self._items.clear()
        self._memory = None  # unmaps it
        self._on_close(self)

    def send(self, packet: bytes) -> None:
        """From any thread. The loop notices when the worker is gone."""
        with contextlib.suppress(OSError):
            self._socket.send(packet)

    def deliver(self, answers: Answers) -> None:
        """Write outputs into their slots and report all answers in one packet."""
        memory = self._memory
        if memory is None:
            return  # the worker is gone
        records = []
        for item, answer in answers:
            assert isinstance(item, _SlotItem)
            if isinstance(answer, InferResult):
                memory.write_outputs(item.slot, answer.output)
                done = Done(ItemStatus.OK, answer.batch_size, item.slot, item.ticket, answer.infer_s)
            else:
                status = ItemStatus.DROPPED if item.cancelled else messages.status_of(answer)
                done = Done(status, 0, item.slot, item.ticket, 0.0)
            self._items.pop(item.slot, None)  # before the worker can reuse the slot
            records.append(messages.done(done))
        self.send(b"".join(records))

    def _readable(self) -> None:
        try:
            for _ in range(_PACKETS_PER_CALL):
                if self._memory is None:
                    self._receive_hello()
                elif packet := self._socket.recv(messages.MAX_PACKET):
                    for message in messages.read_requests(packet):
                        self._handle(message)
                else:
                    self.close()
                    return
        except BlockingIOError:
            pass
        except (OSError, ValueError, struct.error) as error:
            if not isinstance(error, ConnectionError):
                logger.error("closed the connection of a worker: %s", error)
            self.close()

    def _receive_hello(self) -> None:
        """Map the worker's memory. ValueError if the packet is not from a worker of this service."""
        packet, descriptors, _, _ = socket.recv_fds(self._socket, messages.MAX_PACKET, 1)
        try:
            if not packet:
                raise ConnectionError("it closed before its first packet")
            layout = messages.read_hello(packet)
            expected = self._layout._replace(slots=layout.slots)
            if len(descriptors) != 1 or layout != expected or not 1 <= layout.slots <= 1 << 16:
                raise ValueError("it is not a worker of this service")
            self._memory = SlotMemory(layout, descriptors[0])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _handle(self, message: Request) -> None:
        if message.kind == INFER:
            self._infer(message)
        elif message.kind == CANCEL:
            item = self._items.get(message.slot)
            if item is not None and item.ticket == message.ticket:
                item.cancelled = True
        elif message.kind == PROBE:
            if self._probe is None or self._probe.done():
                self._probe = asyncio.ensure_future(self._answer_probe())
        else:
            raise ValueError("it sent a message of an unknown kind")

    def _infer(self, message: Request) -> None:
        assert self._memory is not None
        if message.slot >= len(self._memory.images) or message.slot in self._items:
            raise ValueError("it named a slot that does not exist or is in use")
        request = self._memory.read_request(message.slot)
        item = _SlotItem(
            request.model,
            self._memory.images[message.slot],
            message.deadline,
            self,
            request.classes,
            request.priority,
            request.request_id,
            time.monotonic(),
            slot=message.slot,
            ticket=message.ticket,
        )
        self._items[message.slot] = item
        try:
            self._engine.submit(item)
        except ServiceError as error:
            self.deliver([(item, error)])

    async def _answer_probe(self) -> None:
        self.send(messages.state(await self._engine.ready()))
