"""The listening socket: a TCP port, or a Unix socket. The supervisor uses only this module of ``http``."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import OperatorError
from service.host.runtime_directory import is_abandoned

#: Holds an ordinary photo: each piece of a body wakes the event loop, which interrupts a runner. Together with
#: uvicorn's buffer (``http_server``) this gains 3 % throughput for photos of 117 kB.
_RECEIVE_BUFFER = 2**20


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to ``host``:``port``, not listening yet. OperatorError if that fails."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it; it is only an upper bound. A photo then arrives in one piece instead of three.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        listener.bind((host, port))
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from None
    return listener


@contextmanager
def listening_unix(path: Path) -> Iterator[socket.socket]:
    """A Unix socket that listens at ``path``; the path is removed afterwards. OperatorError if that fails.

    What a killed service left behind is replaced, but not the socket of a running one.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listener.bind(str(path))
        except OSError:
            if not is_abandoned(path):
                raise
            path.unlink()
            listener.bind(str(path))
        listener.listen()  # at once: to another start it would seem abandoned
        path.chmod(0o666)  # as with a port, everyone may connect; the directory can limit who
        ours = _identity(path)
    except OSError as error:
        listener.close()
        raise OperatorError(f"cannot listen on {path}: {error.strerror or error}; choose another --uds") from None
    try:
        yield listener
    finally:
        with contextlib.suppress(OSError):
            if _identity(path) == ours:  # else a newer service has taken its place
                path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    """What tells the file from a later one of its name, which may well get the same inode."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def base_url(listener: socket.socket) -> str:
    """The address for a browser on this machine; for a Unix socket, that for curl --unix-socket."""
    if listener.family == socket.AF_UNIX:
        return "http://localhost"
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
