"""The application on a real socket, in a thread of the test process, over a runtime of the test's choice."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvloop
from PIL import Image

from service.config import Settings
from service.http.app import Service, create_app
from service.http.server.http_server import Server
from service.http.server.listener import listen
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.serving.build import create_intake, create_served, engine_plan
from service.serving.intake import Intake, Served
from service.serving.lifecycle import Lifecycle
from tests.fakes import FakeRuntime, engine_of
from tests.image.samples import encode
from tests.scrape import samples


@dataclass
class RunningApp:
    """What a test can reach: over HTTP, and behind it."""

    host: str
    port: int
    app: Service
    served: Served
    intake: Intake
    lifecycle: Lifecycle
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
    return encode(Image.new("RGB", (size, size), (marker % 256, marker // 256, 1)), "PNG")


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
    """Serve ``artifact`` until the block ends. ``load=False`` leaves the engine as it is before the model is there.

    The server, the application and the engine are those that ship; the runtime is not, and signals stay pytest's.
    """
    settings = Settings(port=0, **changes)
    metrics = Metrics()
    fake = runtime or FakeRuntime()
    listener = listen("127.0.0.1", 0)
    host, port = listener.getsockname()[:2]
    parts: queue.Queue[tuple[Service, Served, Intake, Lifecycle, asyncio.AbstractEventLoop]] = queue.Queue()

    async def main() -> None:
        lifecycle = Lifecycle(settings.drain_timeout_ms / 1e3)
        size = artifact.manifest.preprocessing.crop_size
        options = {"model": artifact.reference, "image_size": size, "decode_threads": decode_threads}
        engine = engine_of(fake, metrics=metrics, **options)
        metrics.watch(metrics.ready, lambda: float(engine.state == "ready" and not lifecycle.draining))
        planned = engine_plan(settings)
        served = create_served(settings, artifact, engine, planned.max_pixels, metrics)
        intake = create_intake(settings, planned.max_in_flight, metrics)
        app = create_app(settings, served, intake, lifecycle, metrics)
        server = Server(app.front, settings, metrics, lifecycle)
        if load:
            await engine.start()
            fake.batches.clear()
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event to wait for
            await asyncio.sleep(0.005)
        parts.put((app, served, intake, lifecycle, asyncio.get_running_loop()))
        await serving
        await lifecycle.close("the engine", engine.aclose())

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    app, served, intake, lifecycle, loop = parts.get(timeout=30)

    def stop() -> None:
        loop.call_soon_threadsafe(lifecycle.drain)

    try:
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=30) as client:
            yield RunningApp(host, port, app, served, intake, lifecycle, fake, metrics, client, stop)
    finally:
        with contextlib.suppress(RuntimeError):  # its loop has ended
            stop()
        thread.join(30)
        assert not thread.is_alive()
