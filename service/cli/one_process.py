"""Runs the service as one process: HTTP, decoding and inference."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvloop

from service.config import Settings
from service.engine.client import ENGINE_EXITS
from service.errors import OperatorError
from service.host import memory
from service.host.cores import available_cores
from service.http.app import create_app
from service.http.server.http_server import Server
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.serving.build import Plan, create_engine, create_intake, create_served, engine_plan
from service.serving.lifecycle import Lifecycle, read_keys_again


def run_single(
    settings: Settings, artifact: Artifact, listener: socket.socket, *, on_ready: Callable[[str], object]
) -> int:
    """Serve until SIGTERM, SIGINT or a final state of the engine; returns the exit status.

    It is 0 after a drain, that of ``ENGINE_EXITS`` after a final state, 1 if the engine could not start. ``on_ready``
    is called once, with a description of the device. Raises OperatorError before anything listens.
    """
    memory.limit_arenas(available_cores())
    plan = engine_plan(settings)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    # Not closed: asyncio would join a thread that waits for one that hangs, and the process could not end.
    return runner.run(_serve(settings, plan, artifact, listener, on_ready))


async def _serve(
    settings: Settings, plan: Plan, artifact: Artifact, listener: socket.socket, on_ready: Callable[[str], object]
) -> int:
    loop = asyncio.get_running_loop()
    metrics, lifecycle = Metrics(), Lifecycle(settings.drain_timeout_ms / 1e3)

    def on_fatal(reason: str) -> None:
        loop.call_soon_threadsafe(lifecycle.fail, reason, ENGINE_EXITS[engine.state])

    engine = create_engine(settings, plan, artifact, metrics, on_fatal)
    metrics.watch(metrics.ready, lambda: float(engine.state == "ready" and not lifecycle.draining))
    served = create_served(settings, artifact, engine, plan.max_pixels, metrics)
    intake = create_intake(settings, plan.max_in_flight, metrics, memory.GiveBackWhenIdle(loop).worked)
    app = create_app(settings, served, intake, lifecycle, metrics)
    server = Server(app.front, settings, metrics, lifecycle)

    def read_again() -> None:
        keys = read_keys_again(settings)
        if keys is not None and app.api_keys is not None:
            app.api_keys.replace(keys)

    lifecycle.on_reload(read_again)

    async def start() -> None:
        """Load the model while the server already answers health checks."""
        try:
            await engine.start()
        except OperatorError as error:
            lifecycle.fail(str(error), exit_status=1)
            return
        memory.give_back()
        info = engine.info
        assert info is not None
        intake.admission.seed(info.batch_cost_seconds)
        on_ready(f"{info.device}, {info.name}, {info.precision}")

    starting = asyncio.create_task(start())
    with lifecycle.signals():
        await server.serve(sockets=[listener])
        starting.cancel()
        return await lifecycle.close("the engine", engine.aclose())
