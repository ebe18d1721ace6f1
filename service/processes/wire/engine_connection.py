"""One worker's connection to one engine: its slots, the calls that wait for them, and reconnection.

acquire ─► free slot ─► infer: INFER over the socket ─► DONE ─► outputs copied ─► free again
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from service.engine.client import Readiness, RuntimeInfo
from service.errors import NotReady
from service.model.outputs import ItemOutput
from service.processes.wire import messages
from service.processes.wire.messages import CANCEL, DONE, INFER, PROBE, STATE, Done, ItemStatus
from service.processes.wire.slots import Layout, SlotMemory, SlotRequest

logger = logging.getLogger(__name__)

#: Pause between attempts to connect, first and longest; it doubles each time.
_RETRY_S = (0.02, 1.0)
#: An engine that has sent nothing for this long, four heartbeats, gets no new images.
_SILENT_S = 1.0


class Slot(NamedTuple):
    """A slot that holds one image, from ``acquire`` to the answer."""

    connection: EngineConnection
    memory: SlotMemory
    number: int


class EngineConnection:
    """Used from one event loop."""

    def __init__(self, address: str, layout: Layout, on_ready: Callable[[RuntimeInfo], object]) -> None:
        self._address = address
        self._layout = layout
        self._on_ready = on_ready
        self._socket: socket.socket | None = None
        self._memory: SlotMemory | None = None
        self._free: list[int] = []
        self._permits = asyncio.Semaphore(0)  # as many as there are free slots; it keeps those who wait in order
        #: Number of images that wait for a slot.
        self.waiting = 0
        self._running: dict[int, tuple[int, asyncio.Future[Done]]] = {}  # by slot: ticket and answer
        self._tickets = itertools.count()
        self._state = Readiness(False, "starting")
        self._last_packet = 0.0
        self._probe: asyncio.Future[Readiness] | None = None  # done with the next state that the engine sends
        self._connecting: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self._state.ok and time.monotonic() - self._last_packet < _SILENT_S

    @property
    def state(self) -> Readiness:
        """The engine's last known state."""
        if self._state.ok and not self.ready:
            return Readiness(False, "late", self._state.info)
        return self._state

    @property
    def outstanding(self) -> int:
        """Number of images that have a slot or wait for one."""
        return (self._layout.slots - len(self._free) if self._memory is not None else 0) + self.waiting

    def start(self) -> None:
        self._connecting = asyncio.ensure_future(self._connect())

    def close(self) -> None:
        self._break()
        if self._connecting is not None:
            self._connecting.cancel()

    async def acquire(self) -> Slot:
        """A free slot; calls are served in order. NotReady if the connection breaks meanwhile."""
        memory = self._memory
        if memory is None:
            raise NotReady("no engine is ready")
        self.waiting += 1
        try:
            await self._permits.acquire()
        finally:
            self.waiting -= 1
        if memory is not self._memory:
            raise NotReady("the engine is gone")
        return Slot(self, memory, self._free.pop())

    def release(self, slot: Slot) -> None:
        """Free ``slot``, unless the engine is using it."""
        if slot.memory is self._memory and slot.number not in self._running:
            self._free.append(slot.number)
            self._permits.release()

    async def infer(self, slot: Slot, request: SlotRequest, deadline: float) -> tuple[Done, ItemOutput]:
        """Infer the image in ``slot`` and free it. Raises the engine's error; NotReady if the engine is gone."""
        if slot.memory is not self._memory:
            raise NotReady("the engine is gone")
        slot.memory.write_request(slot.number, request)
        ticket = next(self._tickets) & 0xFFFFFFFF
        reply: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._running[slot.number] = (ticket, reply)
        self._send(messages.request(INFER, slot.number, ticket, deadline))
        try:
            done = await reply
            if done.status is not ItemStatus.OK:
                raise messages.error_of(done.status)
            return done, slot.memory.read_outputs(slot.number)
        finally:
            if not reply.cancelled():
                self.release(slot)
            elif slot.memory is self._memory:  # only the engine can free it
                self._send(messages.request(CANCEL, slot.number, ticket))

    async def probe(self, timeout_s: float) -> Readiness:
        """Ask the engine for its readiness."""
        if self._socket is None:
            return self._state
        answer = self._probe
        if answer is None:
            answer = self._probe = asyncio.get_running_loop().create_future()
            self._send(messages.request(PROBE, 0, 0))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(answer)
        except TimeoutError:
            return Readiness(False, "late", self._state.info)

    async def _connect(self) -> None:
        pause, longest = _RETRY_S
        while True:
            with contextlib.suppress(OSError):
                self._open()
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    def _open(self) -> None:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connected.setblocking(False)
            connected.connect(self._address)
            memory, descriptor = SlotMemory.create(self._layout)
            try:
                socket.send_fds(connected, [messages.hello(self._layout)], [descriptor])
            finally:
                os.close(descriptor)
        except BaseException:
            connected.close()
            raise
        self._socket, self._memory = connected, memory
        # A stack: under light load few slots are touched, so little memory is used.
        self._free = list(range(self._layout.slots - 1, -1, -1))
        self._permits = asyncio.Semaphore(self._layout.slots)
        asyncio.get_running_loop().add_reader(connected, self._readable)

    def _send(self, packet: bytes) -> None:
        try:
            if self._socket is not None:
                self._socket.send(packet)
        except OSError:  # gone; the buffer of an engine that keeps to the protocol is never full
            self._break()

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            while packet := self._socket.recv(messages.MAX_PACKET):
                self._last_packet = time.monotonic()
                if packet[:1] == DONE:
                    for done in messages.read_done(packet):
                        self._answered(done)
                elif packet[:1] == STATE:
                    self._set_state(messages.read_state(packet))
        except BlockingIOError:
            return
        except OSError:
            pass
        except (KeyError, ValueError, struct.error):
            logger.exception("closed the connection to an engine that does not keep to the protocol")
        self._break()

    def _answered(self, done: Done) -> None:
        ticket, reply = self._running.pop(done.slot)
        if ticket != done.ticket:
            raise ValueError("an answer to an image that was not sent")
        if reply.done():  # the call was cancelled and could not free the slot
            assert self._memory is not None
            self.release(Slot(self, self._memory, done.slot))
        else:
            reply.set_result(done)

    def _set_state(self, state: Readiness) -> None:
        if state.ok and not self._state.ok and state.info is not None:
            self._on_ready(state.info)
        self._state = state
        if self._probe is not None:
            self._probe.set_result(state)
            self._probe = None

    def _break(self) -> None:
        """Drop the connection and its memory, fail all calls that wait, and reconnect."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = self._memory = None
        running, self._running = self._running, {}
        for _, reply in running.values():
            if not reply.done():
                reply.set_exception(NotReady("the engine is gone"))
        for _ in range(self.waiting):
            self._permits.release()  # wakes all who wait: they see that the memory has gone
        self._set_state(Readiness(False, "lost", self._state.info))
        self.start()
