"""``mobilenet-service serve`` as a process of its own, on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from benchmarks.processes import ADDRESS

#: For tests that look at answers and not at times: on a busy machine many images take longer than the usual deadline.
PATIENT = ("--request-timeout-ms", "60000")


class ServerProcess:
    """A running server; ``lines`` is what it has printed."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], program: Sequence[str]) -> None:
        self.lines: list[str] = []
        self._address: str | None = None
        self._known = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", "0", *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if match := ADDRESS.search(line):
                self._address = match[1]
                self._known.set()
        self._known.set()

    @property
    def url(self) -> str:
        """Its address, once it is ready."""
        assert self._known.wait(60), "not ready within a minute"
        assert self._address is not None, self.output
        return self._address

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, limits=httpx.Limits(max_connections=None))

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, 30)

    def refuses_connections(self) -> bool:
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    def wait(self) -> int:
        status = self.process.wait(60)
        self._reader.join(10)
        return status

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


@contextmanager
def server(
    *arguments: str, environment: dict[str, str] | None = None, program: Sequence[str] = ("-m", "service")
) -> Iterator[ServerProcess]:
    running = ServerProcess(arguments, environment or {}, program)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()
