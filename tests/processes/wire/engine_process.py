"""An engine over the fake runtime in a process: ``python -m tests.processes.wire.engine_process NAME SECONDS``.

Listens at the abstract address NAME; a batch takes SECONDS. Ends with its parent's end of the pipe on standard input.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from service.processes.wire.engine_server import EngineServer
from tests.engine.remote import LAYOUT
from tests.fakes import FakeRuntime, engine_of

_numbers = itertools.count()


class EngineProcess:
    """Started, killed, stopped and started again at one address."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._name = f"mobilenet-test-{os.getpid()}-process-{next(_numbers)}"
        self._seconds = seconds
        self.address = f"\0{self._name}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.processes.wire.engine_process", self._name, str(self._seconds)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()


async def main(name: str, seconds: float) -> None:
    runtime = FakeRuntime(before=lambda images: time.sleep(seconds))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{name}")
    listener.listen()
    server = EngineServer(engine_of(runtime), listener, LAYOUT)
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    await ended.wait()
    await server.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
