"""The server that ships on a real socket, in a thread of the test process, over a runtime of the test's choice."""

from __future__ import annotations

import asyncio
import io
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvloop
from PIL import Image

from service.artifact import Artifact
from service.capacity import capacity
from service.config import Settings
from service.engine import LocalEngine
from service.http.app import Service, create_app
from service.http.listener import listen
from service.http.server import Server, config
from service.metrics import Metrics
from tests.fakes import FakeRuntime
from tests.scrape import samples


@dataclass
class RunningApp:
    """What a test can reach: over HTTP, and behind it."""

    host: str
    port: int
    app: Service
    runtime: FakeRuntime
    metrics: Metrics
    client: httpx.Client
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def metric(self, sample: str) -> float:
        """The value of one sample of ``/metrics``, by name and labels as printed; 0 if it is not there."""
        return samples(self.client.get("/metrics").text).get(sample, 0.0)


def png(marker: int, size: int = 224) -> bytes:
    """A plain image that ``FakeRuntime`` recognises after decoding and resizing."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (marker % 256, marker // 256, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def problem(response: httpx.Response, status: int) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert "x-request-id" in response.headers
    body: dict[str, object] = response.json()
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    for leak in ("Traceback", "0x", "/service/", ".py", "PIL"):
        assert leak not in response.text
    return body


def detail(response: httpx.Response, status: int) -> str:
    return str(problem(response, status)["detail"])


@contextmanager
def running_app(
    artifact: Artifact,
    runtime: FakeRuntime | None = None,
    *,
    load: bool = True,
    decode_threads: int = 0,
    **changes: Any,
) -> Iterator[RunningApp]:
    """Serve ``artifact`` with the server of ``mobilenet-service serve`` until the block ends.

    ``load=False`` leaves the engine as it is before the model is there. ``changes`` are settings.
    """
    settings = Settings(**changes)
    metrics = Metrics()
    fake = runtime or FakeRuntime()
    engine = LocalEngine(
        lambda: fake,
        image_size=artifact.manifest.preprocessing.crop_size,
        runners=1,
        max_batch_size=fake.max_batch,
        max_queue_delay=0.0,
        decode_threads=decode_threads,
        metrics=metrics,
        on_fatal=lambda reason: None,
    )
    metrics.watch(metrics.ready, lambda: float(engine.state == "ready"))
    app = create_app(settings, engine, artifact, metrics, capacity(settings, 1))
    listener = listen("127.0.0.1", 0)
    listener.listen()  # who connects before the server accepts waits
    made: Future[Server] = Future()

    async def main() -> None:
        if load:
            await engine.start()
            fake.batches.clear()
        server = Server(config(app, settings, metrics), on_drain=app.inference.drain)
        made.set_result(server)
        await server.serve(sockets=[listener])  # leaves signals alone: this is not the main thread
        await engine.aclose()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    stopped = threading.Event()

    def stop() -> None:
        """As SIGTERM does; a second one would end the process."""
        if not stopped.is_set():
            stopped.set()
            made.result(30).handle_exit(signal.SIGTERM, None)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        made.result(30)
        host, port = listener.getsockname()[:2]
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=30) as client:
            yield RunningApp(host, port, app, fake, metrics, client, stop)
    finally:
        stop()
        thread.join(30)
        assert not thread.is_alive()
