"""A client that speaks bytes, not HTTP: it sends what no library would, and reads whatever comes back."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from contextlib import AbstractContextManager
from dataclasses import dataclass

Address = tuple[str, int]

#: For anything that a test waits for; reached only when the server hangs.
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Answer:
    """``headers`` by lower-case name; of a name sent twice, the last."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection. Writing to one that the server has closed is no error: reading tells."""

    def __init__(self, address: Address, *, receive_buffer: int = 0) -> None:
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(address)
        self._received = b""

    def send(self, data: bytes, *, within: float = PATIENCE_S) -> bool:
        """False: the server has closed the connection, or does not read on ``within`` seconds."""
        self._socket.settimeout(within)
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            return False
        finally:
            self._socket.settimeout(PATIENCE_S)
        return True

    def said(self, within: float) -> bool:
        """The server has something to say, or has closed: the pace of a client that is slow on purpose."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(self._received) or bool(poll.poll(within * 1000))

    def end_sending(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def receive(self) -> bool:
        """Wait for more bytes. False: there will be none."""
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self._received += data
        return bool(data)

    def answer(self, *, to_head: bool = False) -> Answer | None:
        """The next final answer; None if the connection ends before one begins."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if not self.receive():
                assert not self._received, f"half an answer: {self._received!r}"
                return None
        first, *lines = self._received[:end].decode("latin-1").split("\r\n")
        self._received = self._received[end + 4 :]
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        if status == "100":
            return self.answer(to_head=to_head)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = 0 if to_head or status in ("204", "304") else int(headers["content-length"])
        while len(self._received) < length:
            assert self.receive(), "half an answer"
        body, self._received = self._received[:length], self._received[length:]
        return Answer(int(status), headers, body)

    def status(self) -> int | None:
        """That of the next final answer."""
        answer = self.answer()
        return None if answer is None else answer.status

    def ask(self, request: bytes) -> Answer:
        """Send it; the next final answer, which there must be."""
        self.send(request)
        answer = self.answer()
        assert answer is not None
        return answer

    def take(self, size: int) -> None:
        """Fetch at least so many bytes of what comes, and throw them away."""
        while len(self._received) < size:
            assert self.receive()

    def ends(self) -> bool:
        """Wait until the server has closed the connection; False if it says something more."""
        return not self._received and not self.receive()

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Leave as a process does that is killed: the server gets no goodbye but an error."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def wire(address: Address, *, receive_buffer: int = 0) -> AbstractContextManager[Wire]:
    return contextlib.closing(Wire(address, receive_buffer=receive_buffer))


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


def post(body: bytes, *headers: str, path: str = "/classify") -> bytes:
    """A complete request with a true length."""
    return get(path, f"Content-Length: {len(body)}", *headers, method="POST") + body


def chunk(data: bytes, extension: str = "") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension.encode(), data)
