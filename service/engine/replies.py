"""Passes answers from runner threads to the callers of ``infer``, who await them on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from service.engine.batcher import Answers, Item
from service.engine.client import InferResult, expired
from service.errors import ServiceError


@dataclass(eq=False, slots=True, kw_only=True)
class AwaitedItem(Item):
    """An item whose caller awaits ``reply``."""

    reply: asyncio.Future[InferResult]


class Replies:
    """The receiver of awaited items: one call into the event loop per batch."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The replies of all calls, wherever their items are.
        self._waiting: set[asyncio.Future[InferResult]] = set()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the callers' event loop. To be called before ``wait``."""
        self._loop = loop

    async def wait(self, item: AwaitedItem) -> InferResult:
        """The answer to ``item``, which must be submitted; DeadlineExceeded if its deadline passes first."""
        reply = item.reply
        # The batcher drops expired items only at dequeue; this timer answers even if no runner becomes free in time.
        timer = reply.get_loop().call_later(max(0.0, item.deadline - item.created_at), _refuse, reply, expired)
        self._waiting.add(reply)
        try:
            return await reply
        finally:
            self._waiting.discard(reply)
            timer.cancel()
            item.abandon()  # no effect if it was answered

    def deliver(self, answers: Answers) -> None:
        """Called on any thread."""
        self.on_loop(_resolve, answers)

    def refuse_all(self, refusal: Callable[[], ServiceError]) -> None:
        """From any thread: fail all calls that wait."""

        def refuse() -> None:
            for reply in list(self._waiting):
                _refuse(reply, refusal)

        self.on_loop(refuse)

    def on_loop(self, callback: Callable[..., object], *arguments: object) -> None:
        """From any thread: call ``callback`` on the event loop."""
        if self._loop is not None:
            # RuntimeError: the loop has ended, and all calls with it.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback, *arguments)


def _resolve(answers: Answers) -> None:
    for item, answer in answers:
        assert isinstance(item, AwaitedItem)
        if item.reply.done():
            continue
        if isinstance(answer, ServiceError):
            item.reply.set_exception(answer)
        else:
            item.reply.set_result(answer)


def _refuse(reply: asyncio.Future[InferResult], refusal: Callable[[], ServiceError]) -> None:
    if not reply.done():
        reply.set_exception(refusal())
