"""One process that does everything: HTTP, decoding and the network."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable

import uvloop

from service.config import Settings
from service.engine import ENGINE_EXITS, LocalEngine
from service.errors import OperatorError
from service.host import memory
from service.host.cores import available_cores
from service.http.app import create_app
from service.http.server.http_server import Server, config
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.serving.build import Plan, create_engine, plan

logger = logging.getLogger(__name__)


def run(settings: Settings, found: Artifact, listener: socket.socket, *, on_ready: Callable[[str], object]) -> int:
    """Serve until SIGTERM, SIGINT or until the engine comes to an end; the exit status.

    0 after a drain; that of ``ENGINE_EXITS`` when the engine came to an end; 1 if it never was ready. ``on_ready`` is
    called once, with what the model runs on. Raises OperatorError before anything listens.
    """
    memory.limit_arenas(available_cores())
    chosen = plan(settings)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    # Not closed: a thread that does not come back must not keep the process alive past its drain, and asyncio would
    # join the one that waits for it.
    return runner.run(_serve(settings, chosen, found, listener, on_ready))


async def _serve(
    settings: Settings, chosen: Plan, found: Artifact, listener: socket.socket, on_ready: Callable[[str], object]
) -> int:
    loop = asyncio.get_running_loop()
    metrics = Metrics()

    def on_fatal(reason: str) -> None:
        loop.call_soon_threadsafe(server.fail, reason, ENGINE_EXITS[engine.state])

    engine = create_engine(settings, chosen, found, metrics, on_fatal)
    metrics.watch(metrics.ready, lambda: float(engine.state == "ready"))
    app = create_app(settings, engine, found, metrics, chosen.capacity, memory.GiveBackWhenIdle(loop).worked)
    server = Server(config(app, settings, metrics), on_drain=app.inference.drain)
    start = asyncio.create_task(_start(engine, server, on_ready))
    await server.serve(sockets=[listener])
    start.cancel()
    try:
        await asyncio.wait_for(engine.aclose(), timeout=server.drain_time_left)
    except TimeoutError:
        logger.error("the engine did not finish in time and was cut off")
    if server.failure is None:
        logger.info("stopped")
        return 0
    sys.stderr.write(f"error: {server.failure}\n")
    return server.exit_status


async def _start(engine: LocalEngine, server: Server, on_ready: Callable[[str], object]) -> None:
    """Load the model while the server already answers health checks."""
    try:
        await engine.start()
    except OperatorError as error:
        server.fail(str(error), exit_status=1)
        return
    memory.give_back()
    info = (await engine.ready()).info
    assert info is not None
    on_ready(f"{info.device}, {info.runtime}, {info.precision}")
