"""What passing images through shared memory to an engine in another process costs, with a network that takes no time.

``python -m benchmarks.wire``. Engine loop: bare records from one process, in batches of 64. Whole way: ``RemoteEngine``
with decoded images.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import uvloop

from benchmarks.processes import tree_cpu
from benchmarks.report import table
from service.engine import LocalEngine
from service.metrics import Metrics
from service.model.outputs import BatchOutputs
from service.model.runtime import Classes, Images
from service.processes.wire import messages
from service.processes.wire.engine_server import EngineServer
from service.processes.wire.remote_engine import RemoteEngine
from service.processes.wire.slots import Layout, SlotMemory, SlotRequest

_MODEL = "mobilenet_v2/1"
LAYOUT = Layout(image_size=224, num_classes=1000, embedding_dim=1280, map_size=7, slots=256)


class Instant:
    """A runtime that takes no time, so that everything around it is measured."""

    name, device, precision, max_batch = "instant", "cpu", "fp32", 64

    def __init__(self) -> None:
        size = self.max_batch
        self._outputs = BatchOutputs(
            np.tile(np.linspace(0, 1, 1000, dtype=np.float32), (size, 1)),
            np.zeros((size, 1280), np.float32),
            np.zeros((size, 5), np.int64),
            np.zeros((size, 5, 7, 7), np.float32),
        )

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        logits, embeddings, top, maps = self._outputs
        count = len(images)
        return BatchOutputs(logits[:count], embeddings[:count], top[:count], maps[:count])

    def close(self) -> None:
        pass


async def serve(address: str) -> None:
    """The engine's process."""
    engine = LocalEngine(
        _MODEL,
        Instant,
        image_size=224,
        runners=1,
        max_batch_size=64,
        max_queue_delay=0.0,
        decode_threads=0,
        metrics=Metrics(),
        on_fatal=sys.exit,
    )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    await EngineServer(engine, listener, LAYOUT).start()
    await asyncio.Event().wait()


@contextmanager
def engine_process() -> Iterator[tuple[str, int]]:
    """Address and pid of a process that runs ``serve``."""
    name = f"mobilenet-bench-{os.getpid()}"
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.wire", "--engine", name])
    try:
        yield f"\0{name}", child.pid
    finally:
        child.kill()
        child.wait()


def connect(address: str) -> socket.socket:
    for _ in range(500):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(address)
        except ConnectionError:
            connection.close()
            time.sleep(0.02)
        else:
            return connection
    raise RuntimeError("the other process does not listen")


def measured(pid: int, work: Callable[[], int]) -> list[str]:
    """Images per second; microseconds of CPU time per image in this process, in process ``pid``, and in both."""
    here, there, started = time.process_time(), tree_cpu(pid), time.perf_counter()
    count = work()
    seconds = time.perf_counter() - started
    costs = [(time.process_time() - here) / count * 1e6, (tree_cpu(pid) - there) / count * 1e6]
    return [f"{count / seconds:.0f}", *(f"{cost:.1f}" for cost in costs), f"{sum(costs):.1f}"]


def bare_records(address: str, pid: int, seconds: float) -> list[str]:
    connection = connect(address)
    memory, descriptor = SlotMemory.create(LAYOUT)
    for slot in range(LAYOUT.slots):
        memory.write_request(slot, SlotRequest(_MODEL, (), "normal", ""))
    socket.send_fds(connection, [messages.hello(LAYOUT)], [descriptor])
    while not (
        (packet := connection.recv(messages.MAX_PACKET))[:1] == messages.STATE and messages.read_state(packet).ok
    ):
        pass
    batches = [
        b"".join(messages.request(messages.INFER, first + slot, 0, 1e12) for slot in range(64))
        for first in range(0, LAYOUT.slots, 64)
    ]

    def work() -> int:
        ends, count, under_way = time.perf_counter() + seconds, 0, 0
        turn = itertools.cycle(batches)
        for _ in batches:
            connection.send(next(turn))
            under_way += 64
        while under_way:
            packet = connection.recv(messages.MAX_PACKET)
            if packet[:1] != messages.DONE:
                continue
            answered = list(messages.read_done(packet))
            count += len(answered)
            under_way -= len(answered)
            if time.perf_counter() < ends:
                again = (messages.request(messages.INFER, done.slot, 0, 1e12) for done in answered)
                connection.send(b"".join(again))
                under_way += len(answered)
        return count

    return measured(pid, work)


async def whole_way(address: str, seconds: float) -> int:
    engine = RemoteEngine(_MODEL, [address], LAYOUT, decode_threads=1, metrics=Metrics(), on_fatal=sys.exit)
    engine.start()
    while not (await engine.ready()).ok:  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0.01)
    pixels = np.zeros((224, 224, 3), np.uint8)
    ends = time.monotonic() + seconds

    async def client() -> int:
        count = 0
        while time.monotonic() < ends:
            await engine.infer(_MODEL, pixels, time.monotonic() + 10)
            count += 1
        return count

    counts = await asyncio.gather(*(client() for _ in range(64)))
    await engine.aclose()
    return sum(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine:
        uvloop.run(serve(f"\0{given.engine}"))
        return
    with engine_process() as (address, pid):
        rows = [
            ["engine loop, bare records", *bare_records(address, pid, given.seconds)],
            ["RemoteEngine, whole way", *measured(pid, lambda: uvloop.run(whole_way(address, given.seconds)))],
        ]
    sys.stdout.write(table(["", "images/s", "µs here", "µs in the other process", "µs together"], rows))


if __name__ == "__main__":
    main()
