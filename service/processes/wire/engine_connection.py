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
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


class Slot:
    """A slot that holds one image, from ``acquire`` to the answer."""

    def __init__(self, connection: EngineConnection, memory: SlotMemory, index: int) -> None:
        self._connection = connection
        self._memory = memory
        self._index = index

    @property
    def image(self) -> NDArray[np.uint8]:
        """Where the decoder writes."""
        return self._memory.images[self._index]

    def release(self) -> None:
        """Free the slot, unless the engine is using it."""
        self._connection._free_slot(self._memory, self._index)

    async def infer(self, request: SlotRequest, deadline: float) -> tuple[Done, ItemOutput]:
        """Infer the image in the slot. Raises the engine's error; NotReady if the engine is gone."""
        self._memory.write_request(self._index, request)
        reply = self._connection._submit(self._memory, self._index, deadline)
        try:
            done = await reply
        except asyncio.CancelledError:
            if reply.cancelled():
                self._connection._cancel(self._memory, self._index)
            else:  # the answer arrived at the same moment
                self.release()
            raise
        try:
            if done.status is not ItemStatus.OK:
                raise messages.error_of(done.status)
            return done, self._memory.read_outputs(self._index)
        finally:
            self.release()


class EngineConnection:
    """Used from one event loop."""

    def __init__(self, address: str, layout: Layout, on_ready: Callable[[RuntimeInfo], object]) -> None:
        self._address = address
        self._layout = layout
        self._on_ready = on_ready
        self._socket: socket.socket | None = None
        self._memory: SlotMemory | None = None
        self._free: list[int] = []
        self._waiting: deque[asyncio.Future[Slot]] = deque()
        self._running: dict[int, tuple[int, asyncio.Future[Done]]] = {}  # by slot: ticket and answer
        self._tickets = itertools.count()
        self._state = Readiness(False, "starting")
        self._last_packet = 0.0
        self._probes: list[asyncio.Future[Readiness]] = []
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def ready(self) -> bool:
        return self._socket is not None and self._state.ok and time.monotonic() - self._last_packet < _SILENT_S

    @property
    def state(self) -> Readiness:
        """The engine's last known state."""
        if self._state.ok and not self.ready:
            return Readiness(False, "late", self._state.info)
        return self._state

    @property
    def waiting(self) -> int:
        """Number of images that wait for a slot."""
        return len(self._waiting)

    @property
    def outstanding(self) -> int:
        """Number of images that have a slot or wait for one."""
        return (self._layout.slots - len(self._free) if self._memory is not None else 0) + len(self._waiting)

    def start(self) -> None:
        self._connecting = asyncio.ensure_future(self._connect())

    def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        self._break()

    async def acquire(self) -> Slot:
        """A free slot; calls are served in order. NotReady if the connection breaks meanwhile."""
        if self._memory is None:
            raise NotReady("no engine is ready")
        if self._free and not self._waiting:
            return Slot(self, self._memory, self._free.pop())
        grant: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(grant)
        try:
            return await grant
        except asyncio.CancelledError:
            if grant.cancelled():
                with contextlib.suppress(ValueError):  # _free_slot has removed it
                    self._waiting.remove(grant)
            elif grant.done() and grant.exception() is None:
                grant.result().release()
            raise

    async def probe(self, timeout_s: float) -> Readiness:
        """Ask the engine for its readiness."""
        if self._socket is None:
            return self._state if not self._state.ok else Readiness(False, "starting")
        answer: asyncio.Future[Readiness] = asyncio.get_running_loop().create_future()
        self._probes.append(answer)
        if len(self._probes) == 1:
            self._send(messages.request(PROBE, 0, 0))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            return Readiness(False, "late", self._state.info)
        finally:
            if answer in self._probes:
                self._probes.remove(answer)

    def _submit(self, memory: SlotMemory, slot: int, deadline: float) -> asyncio.Future[Done]:
        if memory is not self._memory:
            raise NotReady("the engine is gone")
        reply: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        ticket = next(self._tickets) & 0xFFFFFFFF
        self._running[slot] = (ticket, reply)
        self._send(messages.request(INFER, slot, ticket, deadline))
        return reply

    def _cancel(self, memory: SlotMemory, slot: int) -> None:
        if memory is self._memory and slot in self._running:
            self._send(messages.request(CANCEL, slot, self._running[slot][0]))

    def _free_slot(self, memory: SlotMemory, slot: int) -> None:
        if memory is not self._memory or slot in self._running:
            return
        while self._waiting:
            grant = self._waiting.popleft()
            if not grant.done():
                grant.set_result(Slot(self, memory, slot))
                return
        self._free.append(slot)

    async def _connect(self) -> None:
        pause = _RETRY_S[0]
        while True:
            try:
                self._open()
            except OSError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _RETRY_S[1])
            else:
                return

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
            self._free_slot(self._memory, done.slot)
        else:
            reply.set_result(done)

    def _set_state(self, state: Readiness) -> None:
        if state.ok and not self._state.ok and state.info is not None:
            self._on_ready(state.info)
        self._state = state
        probes, self._probes = self._probes, []
        for probe in probes:
            if not probe.done():
                probe.set_result(state)

    def _break(self) -> None:
        """Drop the connection and its memory, fail all calls that wait, and reconnect."""
        if self._socket is None:
            return
        broken, self._socket = self._socket, None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            asyncio.get_running_loop().remove_reader(broken)
        broken.close()
        self._memory = None
        self._free = []
        calls: list[asyncio.Future[Any]] = [*self._waiting, *(reply for _, reply in self._running.values())]
        self._waiting, self._running = deque(), {}
        for call in calls:
            if not call.done():
                call.set_exception(NotReady("the engine is gone"))
        self._set_state(Readiness(False, "lost", self._state.info))
        if not self._closed:
            self._connecting = asyncio.ensure_future(self._connect())
