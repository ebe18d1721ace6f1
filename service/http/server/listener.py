"""The listening socket, made for photos; the supervisor has it too, without the rest of HTTP."""

from __future__ import annotations

import socket

from service.errors import OperatorError

#: Room for an ordinary photo: each piece of a body wakes the event loop, and a runner is interrupted for it. With the
#: parser's (``http/server.py``) 3 % of the throughput at 117 kB a photo.
_RECEIVE_BUFFER = 2**20


def listen(host: str, port: int) -> socket.socket:
    """Bound, not listening yet. OperatorError if the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection, and no more than an upper bound: a photo arrives in one piece, not in three.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        listener.bind((host, port))
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from None
    return listener


def base_url(listener: socket.socket) -> str:
    """Where a person on this machine reaches it."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else shown}:{port}"
