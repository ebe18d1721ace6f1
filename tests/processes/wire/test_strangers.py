"""An engine's address is everybody's: who talks nonsense, or is another user, is hung up on and hurts nobody."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time

import pytest

from service.processes.wire import messages
from service.processes.wire.remote_engine import RemoteEngine
from service.processes.wire.slots import Layout, SlotMemory, SlotRequest
from tests.engine.remote import LAYOUT, ask, descriptors, engine_server, worker
from tests.fakes import MODEL, FakeRuntime
from tests.waiting import eventually, until_ready

pytestmark = pytest.mark.anyio

#: Becomes a user, connects, and prints how long the first packet is. Who is let in is told the engine's state at once.
_VISITOR = r"""
import os, socket, sys
name, user = sys.argv[1], int(sys.argv[2])
os.setgroups([]), os.setgid(user), os.setuid(user)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    connection.settimeout(20)
    connection.connect("\0" + name)
    print(len(connection.recv(65536)))
"""

HELLO = messages.hello(LAYOUT)


@pytest.mark.parametrize(
    "packets",
    [
        [b"nonsense"],
        [b""],
        [messages.hello(Layout(9, 10, 16, 1, slots=64))],
        [messages.hello(Layout(8, 10, 16, 1, slots=0))],
        [messages.hello(Layout(8, 10, 16, 1, slots=65))],
        [HELLO, b"x"],
        [HELLO, messages.request(b"?", 0, 0)],
        [HELLO, messages.request(messages.INFER, 64, 0, 1e12)],
        [HELLO, messages.request(messages.INFER, 0, 0, 1e12) * 2],
    ],
    ids=range(9),
)
async def test_nonsense_is_hung_up_on_and_hurts_nobody(packets: list[bytes]) -> None:
    async with (
        engine_server(FakeRuntime(before=lambda images: time.sleep(0.002))) as address,
        worker(address) as engine,
    ):
        before = await descriptors_when_connected(engine)
        memory, descriptor = SlotMemory.create(LAYOUT)
        memory.write_request(0, SlotRequest(MODEL, (), "normal", ""))
        del memory  # and the descriptor that its map holds
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.settimeout(20)
            stranger.connect(address)
            socket.send_fds(stranger, packets[:1], [descriptor])
            os.close(descriptor)
            for packet in packets[1:]:
                stranger.send(packet)
            stranger.shutdown(socket.SHUT_WR) if packets == [b""] else None
            await asyncio.to_thread(drain, stranger)
        assert await asyncio.gather(*(ask(engine, marker) for marker in range(20))) == ["right"] * 20
        await eventually(lambda: descriptors() <= before)


async def descriptors_when_connected(engine: RemoteEngine) -> int:
    """The open descriptors of this process, which is both the worker and the server.

    The server announces its state before it reads the greeting and maps the worker's memory. Only an answer shows that
    both sides have all their descriptors.
    """
    await until_ready(engine)
    assert await ask(engine, 0) == "right"
    return descriptors()


def drain(stranger: socket.socket) -> None:
    """Until the other side hangs up."""
    try:
        while stranger.recv(messages.MAX_PACKET):
            pass
    except ConnectionError:
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_hung_up_on_at_once(caplog: pytest.LogCaptureFixture) -> None:
    def first_packet(user: int) -> int:
        """Bytes that a process of ``user`` is sent before it has said anything; 0: it is hung up on."""
        command = [sys.executable, "-c", _VISITOR, address.removeprefix("\0"), str(user)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)

    async with engine_server(FakeRuntime()) as address, worker(address) as engine:
        before = await descriptors_when_connected(engine)
        assert await asyncio.to_thread(first_packet, 65534) == 0
        assert await asyncio.to_thread(first_packet, os.geteuid()) > 0
        assert await ask(engine, 7) == "right"
        await eventually(lambda: descriptors() <= before)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
