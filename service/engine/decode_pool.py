"""Threads that decode items before they are queued, where batches must be gathered from decoded images (a GPU)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from service.engine.batcher import Item
from service.engine.runner import decode
from service.engine.watchdog import Watchdog
from service.errors import ServiceError


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
        outcome = decode(item, self._watchdog)
        self._watchdog.idle()
        if isinstance(outcome, ServiceError):
            done(item, outcome)
        else:
            item.source = outcome
            done(item, None)
