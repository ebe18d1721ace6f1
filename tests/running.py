"""The application on a real socket, in a thread of the test process, over a runtime of the test's choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal
from PIL import Image

from service.config import Settings
from service.http.app import create_app
from service.http.server.http_server import Server
from service.http.server.listener import listen
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.serving.build import create_intake, create_served, engine_plan
from service.serving.intake import Intake, Served
from service.serving.lifecycle import Lifecycle
from service.serving.registry import Registry
from tests.fakes import FakeRuntime, engine_of
from tests.image.samples import encode
from tests.scrape import samples
from tests.waiting import until


@dataclass
class RunningApp:
    """What a test can reach: over HTTP, and behind it."""

    address: tuple[str, int]
    served: Served
    intake: Intake
    lifecycle: Lifecycle
    runtime: FakeRuntime
    client: httpx.Client
    stop: Callable[[], object]

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    def metric(self, sample: str) -> float:
        """The value of one sample of ``/metrics``, by name and labels as printed; 0 if it is not there."""
        return samples(self.client.get("/metrics").text).get(sample, 0.0)

    def wait_for_metric(self, sample: str, value: float) -> None:
        until(lambda: self.metric(sample) == value, timeout=30, what=f"{sample} is {value:g}", every=0.01)


def png(marker: int, size: int = 224) -> bytes:
    """An image that ``FakeRuntime`` recognises by its first pixel; all of one colour, it would get a warning."""
    image = Image.new("RGB", (size, size), (marker % 256, marker // 256, 1))
    image.paste((99, 199, 99), (size - size // 8, size - size // 8, size, size))
    return encode(image, "PNG")


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
def running_app(artifact: Artifact, runtime: FakeRuntime | None = None, **options: Any) -> Iterator[RunningApp]:
    """Serve ``artifact`` on a thread until the block ends; ``options`` are those of ``_serving``.

    The server, the application and the engine are those that ship; the runtime is not, and signals stay pytest's.
    """
    with (
        start_blocking_portal("asyncio", {"use_uvloop": True}) as portal,
        portal.wrap_async_context_manager(_serving(artifact, runtime or FakeRuntime(), **options)) as app,
        app.client,
    ):
        yield app


@asynccontextmanager
async def _serving(
    artifact: Artifact, fake: FakeRuntime, *, load: bool = True, decode_threads: int = 0, **changes: Any
) -> AsyncIterator[RunningApp]:
    """``load=False`` leaves the engine as it is before the model is there; ``changes`` are to the settings."""
    settings, metrics = Settings(port=0, **changes), Metrics()
    lifecycle = Lifecycle(settings.drain_timeout_ms / 1e3)
    size = artifact.manifest.preprocessing.crop_size
    options = {"model": artifact.reference, "image_size": size, "decode_threads": decode_threads}
    engine = engine_of(fake, metrics=metrics, **options)
    metrics.watch(metrics.ready, lambda: float(engine.state == "ready" and not lifecycle.draining))
    planned = engine_plan(settings)
    served = create_served(settings, artifact, engine, planned.max_pixels, metrics)
    intake = create_intake(settings, planned.max_in_flight, metrics)
    app = create_app(settings, Registry([served], metrics), intake, lifecycle, metrics)
    server = Server(app.front, settings, metrics, lifecycle)
    if load:
        await engine.start()
        fake.batches.clear()
    listener = listen("127.0.0.1", 0)
    host, port = listener.getsockname()[:2]
    client = httpx.Client(base_url=f"http://{host}:{port}", timeout=30)
    stop = partial(asyncio.get_running_loop().call_soon_threadsafe, lifecycle.drain)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event to wait for
        await asyncio.sleep(0.005)
    try:
        yield RunningApp((host, port), served, intake, lifecycle, fake, client, stop)
    finally:
        lifecycle.drain()
        await serving
        await lifecycle.close("the engine", engine.aclose())
