"""What passing images through shared memory to an engine in another process costs, with a network that takes no time.

``python -m benchmarks.wire``: ``RemoteEngine`` with decoded images, 64 at once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import uvloop

from benchmarks.processes import tree_cpu
from benchmarks.report import table
from service.engine.local import LocalEngine
from service.metrics import Metrics
from service.model.outputs import MAPS_PER_ITEM, BatchOutputs
from service.model.runtime import Classes, Images
from service.processes.wire.engine_server import EngineServer
from service.processes.wire.remote_engine import RemoteEngine
from service.processes.wire.slots import Layout

_MODEL = "mobilenet_v2/1"
LAYOUT = Layout(image_size=224, num_classes=1000, embedding_dim=1280, map_size=7, slots=256)


class Instant:
    """A runtime that takes no time, so that everything around it is measured."""

    name, device, precision, max_batch = "instant", "cpu", "fp32", 64

    def __init__(self, layout: Layout = LAYOUT) -> None:
        size, side = self.max_batch, layout.map_size
        self._outputs = BatchOutputs(
            np.tile(np.linspace(0, 1, layout.num_classes, dtype=np.float32), (size, 1)),
            np.ones((size, layout.embedding_dim), np.float32),
            np.zeros((size, MAPS_PER_ITEM), np.int64),
            np.zeros((size, MAPS_PER_ITEM, side, side), np.float32),
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


async def measure(address: str, pid: int, seconds: float) -> list[str]:
    """Images per second; microseconds of CPU time per image in this process, in process ``pid``, and in both."""
    engine = RemoteEngine(_MODEL, [address], LAYOUT, decode_threads=1, metrics=Metrics(), on_fatal=sys.exit)
    engine.start()
    while not (await engine.ready()).ok:  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0.01)
    pixels = np.zeros((224, 224, 3), np.uint8)
    here, there, started = time.process_time(), tree_cpu(pid), time.monotonic()

    async def client() -> int:
        count = 0
        while time.monotonic() < started + seconds:
            await engine.infer(_MODEL, pixels, time.monotonic() + 10)
            count += 1
        return count

    count = sum(await asyncio.gather(*(client() for _ in range(64))))
    rate = count / (time.monotonic() - started)
    costs = [(time.process_time() - here) / count * 1e6, (tree_cpu(pid) - there) / count * 1e6]
    await engine.aclose()
    return [f"{rate:.0f}", *(f"{cost:.1f}" for cost in costs), f"{sum(costs):.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine:
        uvloop.run(serve(f"\0{given.engine}"))
        return
    with engine_process() as (address, pid):
        row = uvloop.run(measure(address, pid, given.seconds))
    sys.stdout.write(table(["images/s", "µs here", "µs in the other process", "µs together"], [row]))


if __name__ == "__main__":
    main()
