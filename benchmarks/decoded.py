"""Images that are decoded already, from worker processes to one engine process: the service without HTTP and JPEGs.

``benchmarks.gpu`` uses it. Run as a process, it is the engine, or a worker that reads SECONDS from each line of its
input and answers with its images a second.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import uvloop

from service.config import Settings
from service.image import Prepared
from service.metrics import Metrics
from service.model import artifact
from service.model.artifact import Artifact
from service.processes.wire.engine_server import EngineServer
from service.processes.wire.remote_engine import RemoteEngine
from service.serving.build import create_engine, engine_plan, wire_layout

#: For an engine to load its model and capture its graphs.
_START_S = 180.0


@contextmanager
def engine(device: str, precision: str, runtime: str = "torch") -> Iterator[str]:
    """The name by which ``measure`` finds an engine process that serves the model of ``Settings``."""
    name = f"mobilenet-bench-{os.getpid()}-{device}"
    with _process("engine", name, device, precision, runtime):
        yield name


def measure(name: str, workers: int, seconds: float) -> float:
    """Images a second that ``workers`` processes have inferred, each with a thread that copies them into its slots."""
    with ExitStack() as stack:
        processes = [stack.enter_context(_process("worker", name)) for _ in range(workers)]
        for process in processes:
            if _line(process) != "ready":
                raise RuntimeError("a worker found no engine")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        return sum(float(_line(process)) for process in processes)


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.decoded", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def _serve(name: str, settings: Settings, found: Artifact) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{name}")
    listener.listen()
    chosen = engine_plan(settings)._replace(decode_threads=0)
    served = create_engine(settings, chosen, found, Metrics(), on_fatal=sys.exit)
    await EngineServer(served, listener, wire_layout(found)).start()
    await asyncio.Event().wait()


async def _work(name: str, found: Artifact) -> None:
    layout = wire_layout(found)
    client = RemoteEngine([f"\0{name}"], layout, decode_threads=1, metrics=Metrics(), on_fatal=sys.exit)
    client.start()
    async with asyncio.timeout(_START_S):
        while not (await client.ready()).ok:  # noqa: ASYNC110  # it has no event to wait for
            await asyncio.sleep(0.05)
    size = layout.image_size
    prepared = Prepared(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8), "jpeg", (), (size, size))
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    async def client_loop(ends: float) -> int:
        count = 0
        while time.monotonic() < ends:
            await client.infer(lambda: prepared, ends + 60)
            count += 1
        return count

    while line := await asyncio.to_thread(sys.stdin.readline):
        started = time.monotonic()
        counts = await asyncio.gather(*(client_loop(started + float(line)) for _ in range(layout.slots)))
        sys.stdout.write(f"{sum(counts) / (time.monotonic() - started)}\n")
        sys.stdout.flush()


def main() -> None:
    role, name, *options = sys.argv[1:]
    settings = Settings()
    if role == "engine":
        settings = Settings.model_validate(dict(zip(("device", "precision", "runtime"), options, strict=True)))
    found = artifact.load(settings.model_store, settings.model, settings.version)
    uvloop.run(_serve(name, settings, found) if role == "engine" else _work(name, found))


if __name__ == "__main__":
    main()
