"""A service that listens on a Unix socket, as its clients see it."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx

from tests.e2e.process import ServerProcess
from tests.waiting import until


def client(path: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=30)


def answers(path: Path) -> bool:
    """Whether the service there is ready."""
    with socket.socket(socket.AF_UNIX) as connection:  # httpx leaves one open that is refused
        connection.settimeout(30)
        try:
            connection.connect(str(path))
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False


def wait_until_ready(running: ServerProcess, path: Path) -> None:
    def settled() -> bool:
        return running.process.poll() is not None or answers(path)

    until(settled, timeout=60, what="ready", every=0.02)
    assert running.process.poll() is None, running.output
