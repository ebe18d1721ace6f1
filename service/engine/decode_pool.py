"""From an item's source to its pixels: on the runner's own thread, or on the threads of a ``DecodePool``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

from service.engine.batcher import Item
from service.engine.client import Decode
from service.engine.states import expired
from service.engine.watchdog import Watchdog
from service.errors import DeadlineExceeded, ServiceError

logger = logging.getLogger(__name__)


def decode(item: Item, watchdog: Watchdog) -> ServiceError | None:
    """Set ``item.pixels`` unless that was done before; returns what went wrong, if anything did.

    The caller tells ``watchdog`` afterwards that its thread is idle.
    """
    if item.pixels is not None:
        return None
    source = item.source
    if not isinstance(source, Decode):
        item.pixels = source
        return None
    started = time.monotonic()
    if item.deadline <= started:  # its neighbours' decoding took too long
        return DeadlineExceeded("the deadline passed before the image was decoded")
    watchdog.decoding(source.pixel_count)
    try:
        item.pixels = source.call()
    except ServiceError as error:
        return error
    except Exception:
        fields = {"request_id": item.request_id}
        logger.exception("an image could not be decoded; its sender is not at fault", extra={"fields": fields})
        return ServiceError("the image could not be processed")
    item.decode_s = time.monotonic() - started
    return None


def abandon(item: Item) -> None:
    """Nobody waits for ``item`` any more: a queue that still holds it no longer holds its bytes."""
    item.cancelled = True
    item.source = _ABANDONED


def _give_up() -> NoReturn:
    raise expired()


_ABANDONED = Decode(_give_up)


class DecodePool:
    """Threads that decode items."""

    def __init__(self, threads: int, watchdog: Watchdog) -> None:
        self.threads = threads
        self._watchdog = watchdog
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def submit(self, item: Item, done: Callable[[Item, ServiceError | None], None]) -> Future[None]:
        """Decode ``item`` on a thread of the pool, which then calls ``done`` with what went wrong."""
        return self._pool.submit(self._run, item, done)

    def close(self, *, wait: bool = True) -> None:
        """Take no more items; ``wait`` until those that were taken are decoded."""
        self._pool.shutdown(wait=wait)

    def _run(self, item: Item, done: Callable[[Item, ServiceError | None], None]) -> None:
        error = decode(item, self._watchdog)
        self._watchdog.idle()
        done(item, error)
