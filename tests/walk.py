"""Which of our code one image touches: ``python -m tests.walk`` traces a real ``POST /classify`` and prints it.

The shipped server, application and engine answer one JPEG with OpenVINO, on a connection that was used before. Counted
are functions of ``service/`` that are entered (a coroutine that goes on is not entered again), the files they are in,
hand-overs between threads, and calls from a room to a higher one.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import uvloop
from PIL import Image

import service
from service.config import Settings
from service.http.app import create_app
from service.http.server.http_server import Server
from service.http.server.listener import listen
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.serving.build import create_engine, create_intake, create_served, engine_plan
from service.serving.lifecycle import Lifecycle
from service.serving.registry import Registry
from tests.artifacts import make_artifact
from tests.layers import LEVEL

_ROOT = str(Path(service.__file__).parent) + os.sep


class Call(NamedTuple):
    """One function of ours that was entered; ``caller`` is the file of the nearest frame of ours below it."""

    thread: int
    file: str  # relative to service/
    function: str
    caller: str | None


class Walk(NamedTuple):
    calls: list[Call]

    @property
    def files(self) -> list[str]:
        """In the order in which they are reached."""
        return list(dict.fromkeys(call.file for call in self.calls))

    @property
    def crossings(self) -> int:
        """Hand-overs between threads: the image leaves the event loop's and comes back."""
        loop = self.calls[0].thread
        away = [call.thread != loop for call in self.calls]
        # From the first step of other threads to their last the event loop may do things of its own beside them.
        threads = {call.thread for call in self.calls} - {loop}
        return len(threads) + 1 if any(away) else 0

    @property
    def upward(self) -> list[Call]:
        return [call for call in self.calls if call.caller is not None and _level(call.caller) < _level(call.file)]


def _level(file: str) -> int:
    return LEVEL[file.partition("/")[0].removesuffix(".py")]


class _Tracer:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._entered: list[FrameType] = []  # kept, so that no later frame has the identity of one of them
        self._known: set[int] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if (
            event != "call"
            or frame.f_code.co_name.startswith("<")
            or not frame.f_code.co_filename.startswith(_ROOT)
            or id(frame) in self._known
        ):
            return
        self._known.add(id(frame))
        self._entered.append(frame)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(_ROOT):
            caller = caller.f_back
        file = frame.f_code.co_filename.removeprefix(_ROOT)
        below = None if caller is None else caller.f_code.co_filename.removeprefix(_ROOT)
        self.calls.append(Call(threading.get_ident(), file, frame.f_code.co_qualname, below))


def trace(artifact: Artifact) -> Walk:
    """What the second of two equal requests touches."""
    buffer = io.BytesIO()
    Image.effect_noise((500, 375), 60).convert("RGB").save(buffer, "JPEG")
    body, tracer, tracing = buffer.getvalue(), _Tracer(), threading.Event()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if tracing.is_set():
            tracer(frame, event, argument)

    threading.setprofile(profile)  # for the threads that start from here on
    try:
        with _serving(artifact) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            for _ in range(2):
                connection.request("POST", "/classify", body)
                answer = connection.getresponse()
                assert (answer.status, len(answer.read()) > 0) == (200, True)
                if tracing.is_set():
                    tracing.clear()
                else:
                    tracing.set()
            connection.close()
    finally:
        threading.setprofile(None)
    return Walk(tracer.calls)


@contextmanager
def _serving(artifact: Artifact) -> Iterator[int]:
    settings = Settings(device="cpu", access_log=False)
    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    lifecycles: list[tuple[asyncio.AbstractEventLoop, Lifecycle]] = []

    async def main() -> None:
        metrics, lifecycle, plan = Metrics(), Lifecycle(5.0), engine_plan(settings)
        lifecycles.append((asyncio.get_running_loop(), lifecycle))
        engine = create_engine(settings, plan, artifact, metrics, on_fatal=lambda reason: None)
        served = create_served(settings, artifact, engine, plan.max_pixels, metrics)
        intake = create_intake(settings, plan.max_in_flight, metrics)
        app = create_app(settings, Registry([served], metrics), intake, lifecycle, metrics)
        server = Server(app.front, settings, metrics, lifecycle)
        await engine.start()
        listener.listen()
        ready.set()
        await server.serve(sockets=[listener])
        await lifecycle.close("the engine", engine.aclose())

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    assert ready.wait(60)
    try:
        yield listener.getsockname()[1]
    finally:
        loop, lifecycle = lifecycles[0]
        loop.call_soon_threadsafe(lifecycle.drain)
        thread.join(30)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        walk = trace(make_artifact(Path(folder), crop_size=224))
    thread = walk.calls[0].thread
    for call in walk.calls:
        if call.thread != thread:
            thread = call.thread
            sys.stdout.write("  ⇢ another thread\n")
        sys.stdout.write(f"{call.file:40} {call.function}\n")
    sys.stdout.write(
        f"\nfiles = {len(walk.files)}\ncalls = {len(walk.calls)}\nthread crossings = {walk.crossings}\n"
        f"upward calls = {len(walk.upward)}\n"
    )


if __name__ == "__main__":
    main()
