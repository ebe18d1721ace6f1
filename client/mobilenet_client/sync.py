"""The client for programs without asyncio: its methods are those of ``AsyncClient``, run on a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from mobilenet_client.aio import AsyncClient
from mobilenet_client.errors import ClientError
from mobilenet_client.wire import Settings

T = TypeVar("T")
P = ParamSpec("P")


def _waiting(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    @functools.wraps(method)
    def wait(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self._client, *args, **kwargs))

    return wait


def _stepping(
    method: Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Client, P], Generator[T, None, None]]:
    @functools.wraps(method)
    def steps(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        each = method(self._client, *args, **kwargs)

        async def step() -> T | None:
            return await anext(each, None)

        try:
            while (item := self._wait(step())) is not None:
                yield item
        finally:
            with contextlib.suppress(ClientError):  # closed before: its requests have ended
                self._submit(each.aclose())  # not waited for: the garbage collector may have called from any thread

    return steps


@dataclass(eq=False, repr=False)
class Client(Settings):
    __doc__ = Settings.__doc__

    classify, classify_many = _waiting(AsyncClient.classify), _waiting(AsyncClient.classify_many)
    explain, explain_many = _waiting(AsyncClient.explain), _waiting(AsyncClient.explain_many)
    embed, embed_many = _waiting(AsyncClient.embed), _waiting(AsyncClient.embed_many)
    classify_iter, explain_iter = _stepping(AsyncClient.classify_iter), _stepping(AsyncClient.explain_iter)
    embed_iter = _stepping(AsyncClient.embed_iter)

    def __post_init__(self) -> None:
        self._client = AsyncClient(**vars(self))
        self._lock, self._closed = threading.RLock(), False  # re-entrant: a generator may be collected inside
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="mobilenet-client", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        async def until_closed() -> None:
            await self._stop.wait()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._client.aclose()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(until_closed())

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        with self._lock:
            if not self._closed and threading.current_thread() is not self._thread:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise ClientError("the client is closed, or asked from its own thread")

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = self._submit(coroutine)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClientError("the client was closed meanwhile") from None
        except BaseException:  # Ctrl-C: nobody waits for the answer any more
            future.cancel()
            raise

    def close(self) -> None:
        """Calls of other threads end with ClientError."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
