"""Many images, answered in the order given, with few of them in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from mobilenet_client.images import ImageLike

#: Of images, or of pairs of a key and an image.
Images: TypeAlias = Mapping[Any, ImageLike] | Iterable[Any] | AsyncIterable[Any]
T = TypeVar("T")

#: Answers that may wait for an earlier image's, for each request at once: some are refused for a second and repeated.
WAITING = 16


async def keyed(images: Images) -> AsyncGenerator[tuple[Any, ImageLike], None]:
    """(key, image) of a mapping or of pairs, else (index, image)."""
    if isinstance(images, str | bytes):
        raise TypeError("this is one image; give several, or use the method for one")
    source = images if isinstance(images, AsyncIterable) else _items(images)
    index = 0
    async for item in source:
        yield item if isinstance(item, tuple) else (index, item)
        index += 1


async def _items(images: Mapping[Any, ImageLike] | Iterable[Any]) -> AsyncGenerator[Any, None]:
    """What is not in memory is taken in a thread, for it may have to be read."""
    iterator, end = iter(images.items() if isinstance(images, Mapping) else images), object()
    ready = isinstance(images, Collection)
    while (item := next(iterator, end) if ready else await asyncio.to_thread(next, iterator, end)) is not end:
        yield item


async def in_order(
    images: Images, ask: Callable[[ImageLike], Awaitable[T]], concurrency: int
) -> AsyncGenerator[tuple[Any, T], None]:
    """(key, ``await ask(image)``) of each image. What an ``ask`` raises ends it, without waiting for earlier images."""
    window: deque[tuple[Any, asyncio.Future[T]]] = deque()
    slots, places = asyncio.Semaphore(concurrency), asyncio.Semaphore(concurrency * WAITING)
    news = asyncio.Event()

    def done(task: asyncio.Future[T]) -> None:
        slots.release()
        news.set()
        if not task.cancelled() and task.exception() is not None:
            window.appendleft((None, task))  # its turn is now

    async def feed() -> None:
        source = keyed(images)
        while True:
            await places.acquire()
            await slots.acquire()  # before the image is taken, so that no more images are held than asked about
            if (pair := await anext(source, None)) is None:
                return
            task = asyncio.ensure_future(ask(pair[1]))
            task.add_done_callback(done)
            window.append((pair[0], task))

    feeder = asyncio.create_task(feed())
    feeder.add_done_callback(lambda _: news.set())
    try:
        while window or not feeder.done():
            if window and window[0][1].done():
                key, task = window.popleft()
                places.release()
                yield key, task.result()
            else:
                news.clear()
                await news.wait()
        feeder.result()  # what the iterable itself raised
    finally:
        tasks: list[asyncio.Future[Any]] = [feeder, *(task for _, task in window)]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
