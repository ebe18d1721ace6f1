"""The pipeline: reads ahead on threads, infers on the engine's, writes on one more; in the order of ids.

entries ─► read ─► Infer ─► in order ─► blocks of rows ─► Output

Reading, decoding, computing and writing overlap, also where one shard ends and the next begins. What is in memory does
not grow with their number: MAX_PHOTOS between reader and writer, encoded ones of MAX_BYTES, two blocks of results.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing
from itertools import chain

from service.bulk.results import Infer, Result
from service.bulk.shards import Folder, Output
from service.bulk.sources import Entry, Listing, Reader
from service.errors import ServiceError

MAX_PHOTOS = 512
MAX_BYTES = 256 * 2**20
#: Rows that are written at once; a row group of a Parquet file.
BLOCK_ROWS = 1000

#: Threads that read files; more of them help where a file takes milliseconds to open.
_READERS = 4


async def results(entries: Iterable[Entry], infer: Infer) -> AsyncGenerator[tuple[Entry, Result], None]:
    """The result of each of ``entries``, in their order. Raises what ``infer`` raises."""
    loop = asyncio.get_running_loop()
    reader = Reader()
    files, containers = ThreadPoolExecutor(_READERS, "read"), ThreadPoolExecutor(1, "read-in-order")
    reading, less, held = asyncio.Semaphore(_READERS), asyncio.Event(), 0

    async def result(entry: Entry) -> Result:
        nonlocal held
        try:
            async with reading:
                while held >= MAX_BYTES:
                    less.clear()
                    await less.wait()
                data = await loop.run_in_executor(containers if entry.container else files, reader.read, entry)
                held += len(data)
        except ServiceError as error:
            return Result(error=error)
        try:
            return await infer(entry.id, data)
        finally:
            held -= len(data)
            less.set()

    waiting: deque[tuple[Entry, asyncio.Task[Result]]] = deque()
    try:
        for entry in entries:
            waiting.append((entry, asyncio.create_task(result(entry))))
            while waiting and (len(waiting) >= MAX_PHOTOS or waiting[0][1].done()):
                yield waiting[0][0], await waiting[0][1]
                waiting.popleft()
        while waiting:
            yield waiting[0][0], await waiting[0][1]
            waiting.popleft()
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
        for pool in (files, containers):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        reader.close()


def shards_to_do(listing: Listing, folder: Folder, worker: tuple[int, int]) -> Iterator[int]:
    """Every ``worker[1]``-th shard from ``worker[0]`` on that does not exist when its turn comes."""
    return (index for index in range(worker[0], listing.shards, worker[1]) if not folder.shard(index).exists())


async def write_shards(
    listing: Listing, folder: Folder, worker: tuple[int, int], infer: Infer, count: Callable[[Result], object]
) -> None:
    """Make all shards of ``worker`` that do not exist; whatever happens, nothing incomplete gets a name."""
    entries = chain.from_iterable(map(listing.entries, shards_to_do(listing, folder, worker)))
    async with aclosing(results(entries, infer)) as stream, _Writer(folder) as writer:
        async for entry, result in stream:
            count(result)
            await writer.add(entry, result)


class _Writer(AbstractAsyncContextManager["_Writer"]):
    """Gathers rows to blocks and has a thread write them, one block behind."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, "write")
        self._block: list[tuple[str, Result]] = []
        self._output: Output | None = None  # of the thread
        self._writing: asyncio.Future[None] | None = None

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                await self._written()
        finally:
            await asyncio.to_thread(self._pool.shutdown)
            if self._output is not None:
                self._output.close()

    async def add(self, entry: Entry, result: Result) -> None:
        self._block.append((entry.id, result))
        if entry.last or len(self._block) == BLOCK_ROWS:
            await self._written()
            block, self._block = self._block, []
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(self._pool, self._write, block, entry.shard, entry.last)

    async def _written(self) -> None:
        if self._writing is not None:
            await self._writing

    def _write(self, block: list[tuple[str, Result]], shard: int, ends: bool) -> None:
        self._output = self._output or self._folder.create(shard)
        self._output.add(*zip(*block, strict=True))
        if ends:
            self._output.publish()
            self._output = None
