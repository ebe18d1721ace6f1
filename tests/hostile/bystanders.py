"""Those who ask for something good beside the abuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def asking(ask: Callable[[], T], threads: int = 1) -> Iterator[list[T]]:
    """Call ``ask`` again and again on ``threads`` threads until the block ends; the list grows by what it returns."""
    found: list[T] = []
    enough = threading.Event()

    def run() -> None:
        while not enough.is_set():
            found.append(ask())

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(run) for _ in range(threads)]
        try:
            yield found
        finally:
            enough.set()
    for future in running:
        future.result()
