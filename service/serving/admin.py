"""The operator's way into a running service: a Unix socket, one JSON object per line, a question and its answer.

    AdminServer     in the service
    ask             in a command

The service's port has nothing of this.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from service.errors import OperatorError
from service.host.runtime_directory import new_socket, process_of

logger = logging.getLogger(__name__)

Message = dict[str, Any]
Handler = Callable[[Message], Awaitable[Message]]

#: Of a line.
_MAX_BYTES = 2**20


class AdminServer:
    """Listens at ``path``, for this user only, and answers with what ``handler`` returns.

    A handler that raises is answered with ``{"error": sentence}``. Who closes the connection before the answer takes
    the question back: the handler is cancelled, because nobody would learn what it has done.
    """

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """OperatorError if it cannot listen."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        hidden = self._path.with_suffix(".new")
        try:
            hidden.unlink(missing_ok=True)
            listener.bind(str(hidden))
            hidden.chmod(0o600)
            listener.listen()
            hidden.replace(self._path)  # only now: a socket on which nobody listens seems abandoned
        except OSError as error:
            listener.close()
            raise OperatorError(f"cannot listen on {self._path}: {error.strerror or error}") from None
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_MAX_BYTES)

    async def aclose(self) -> None:
        """Questions that are not answered yet are cancelled."""
        if self._server is None:
            return
        with suppress(OSError):
            self._path.unlink()
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            line = await reader.readline()
            while line:
                following = asyncio.create_task(reader.readline())
                answering = asyncio.create_task(self._answer(line))
                try:
                    await asyncio.wait((following, answering), return_when=asyncio.FIRST_COMPLETED)
                    if following.done() and not following.result():
                        return
                    writer.write(await answering)
                    await writer.drain()
                    line = await following
                finally:
                    following.cancel()
                    answering.cancel()
                    await asyncio.gather(following, answering, return_exceptions=True)
        # The other side is gone, or sends lines over the limit; or this one stops, and asyncio would report that.
        except (OSError, ValueError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> bytes:
        try:
            question = json.loads(line)
        except ValueError:
            question = None
        try:
            if not isinstance(question, dict):
                raise OperatorError("a question is one line with a JSON object")
            answer = await self._handler(question)
        except OperatorError as error:
            answer = {"error": str(error)}
        except Exception:
            logger.exception("a question of the operator failed")
            answer = {"error": "the service failed over this question; its log says why"}
        return json.dumps(answer).encode() + b"\n"


@asynccontextmanager
async def listening_for_operator(store: Path, handler: Handler) -> AsyncIterator[None]:
    """Listen while the block runs; where that is impossible, the service serves all the same."""
    server = None
    try:
        server = AdminServer(new_socket(store), handler)
        await server.start()
    except OperatorError as error:
        logger.warning("'models promote' and 'models status' cannot reach this service: %s", error)
    try:
        yield
    finally:
        if server is not None:
            await server.aclose()


def ask(path: Path, question: Message, timeout_s: float) -> Message:
    """What the service at ``path`` answers. OperatorError if it answers with an error, or not within ``timeout_s``."""
    who = f"process {process_of(path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(question).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except TimeoutError:
            raise OperatorError(f"{who} gave no answer within {timeout_s:g} s") from None
        except PermissionError:
            raise OperatorError(f"{who} is another user's; run the command as that user") from None
        except OSError:
            line = b""
    if not line.endswith(b"\n"):
        raise OperatorError(f"{who} ended before it answered")
    answer: Message = json.loads(line)
    if "error" in answer:
        raise OperatorError(f"{who}: {answer['error']}")
    return answer
