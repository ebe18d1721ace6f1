"""The callers of ``infer`` that await an answer on the event loop, and how answers reach them from other threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from service.engine.batcher import Answers, Item
from service.engine.client import InferResult
from service.engine.decode_pool import abandon
from service.engine.states import expired
from service.errors import ServiceError


@dataclass(eq=False, slots=True, kw_only=True)
class AwaitedItem(Item):
    """An item whose caller awaits ``reply``."""

    reply: asyncio.Future[InferResult]


class Replies:
    """The receiver of awaited items: one call into the event loop per batch."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Of everyone who waits, wherever the item is.
        self._waiting: set[asyncio.Future[InferResult]] = set()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """``loop`` is where callers wait. Until this is called nobody can wait."""
        self._loop = loop

    async def wait(self, item: AwaitedItem) -> InferResult:
        """The answer to ``item``, which was submitted; DeadlineExceeded when its deadline passes first."""
        reply = item.reply
        # The batcher drops expired items at dequeue; this timer also answers when no runner comes by in time.
        timer = reply.get_loop().call_later(max(0.0, item.deadline - item.created_at), _refuse, reply, expired)
        self._waiting.add(reply)
        try:
            return await reply
        finally:
            self._waiting.discard(reply)
            timer.cancel()
            abandon(item)  # no effect on an item that was answered

    def deliver(self, answers: Answers) -> None:
        """From any thread."""
        self.on_loop(_resolve, answers)

    def refuse_all(self, refusal: Callable[[], ServiceError]) -> None:
        """From any thread: answer everyone who waits."""

        def refuse() -> None:
            for reply in list(self._waiting):
                _refuse(reply, refusal)

        self.on_loop(refuse)

    def on_loop(self, callback: Callable[..., object], *arguments: object) -> None:
        """From any thread: call ``callback`` on the event loop."""
        if self._loop is not None:
            # RuntimeError: the loop has ended, and with it everyone who waited.
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
