"""Decodes an item's source to its pixels: on the runner's own thread, or on threads of a ``DecodePool``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

from service.engine.batcher import Item
from service.engine.client import Decode, expired
from service.engine.watchdog import Watchdog
from service.errors import DeadlineExceeded, ServiceError

logger = logging.getLogger(__name__)


def decode(item: Item, watchdog: Watchdog) -> ServiceError | None:
    """Set ``item.pixels`` if it is not set; returns the error if that fails.

    The caller must report to ``watchdog`` afterwards that its thread is idle.
    """
    if item.pixels is not None:
        return None
    source = item.source
    if not isinstance(source, Decode):
        item.pixels = source
        return None
    started = time.monotonic()
    if item.deadline <= started:  # decoding other items of the batch took too long
        return DeadlineExceeded("the deadline passed before the image was decoded")
    watchdog.decoding(source.pixel_count)
    try:
        item.pixels = source.call()
    except ServiceError as error:
        return error
    except Exception:
        fields = {"request_id": item.request_id}
        logger.exception("decoding an image failed unexpectedly", extra={"fields": fields})
        return ServiceError("the image could not be processed")
    item.decode_s = time.monotonic() - started
    return None


def abandon(item: Item) -> None:
    """The caller of ``item`` no longer waits: release its bytes even if a queue still holds it."""
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
        """Decode ``item`` on a thread of the pool, which then calls ``done`` with the item and the error, if any."""
        return self._pool.submit(self._run, item, done)

    def close(self, *, wait: bool = True) -> None:
        """Refuse new items; with ``wait``, block until the submitted ones are decoded."""
        self._pool.shutdown(wait=wait)

    def _run(self, item: Item, done: Callable[[Item, ServiceError | None], None]) -> None:
        error = decode(item, self._watchdog)
        self._watchdog.idle()
        done(item, error)
