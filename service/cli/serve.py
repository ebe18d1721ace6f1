"""``mobilenet-service serve``: one process that does everything, or a supervisor of workers and engines.

One process ends with status 0 after a drain; with that of ``ENGINE_EXITS`` when its engine came to an end; with 1 if it
never was ready.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from functools import partial
from typing import Any

import click
import uvloop

from service import __version__, artifact, logs, memory
from service.artifact import Artifact
from service.assembly import Plan, create_engine, plan
from service.cli.options import setting_options, settings_from
from service.config import Settings
from service.cores import available_cores
from service.engine import ENGINE_EXITS, LocalEngine
from service.errors import OperatorError
from service.http.app import create_app
from service.http.server import Server, base_url, config, listen
from service.metrics import Metrics
from service.supervisor.supervisor import supervise

logger = logging.getLogger(__name__)


@click.command()
@setting_options()
def serve(**given: Any) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C.

    One process by default. With --workers N, N processes read, decode and answer, and one more for each of --devices
    computes: for GPUs, and for machines with many cores.
    """
    settings = settings_from(**given)
    logs.configure(settings.log_format, settings.log_level)
    # Refused here, before anything listens, if manifest or labels are not in order.
    found = artifact.load(settings.model_store, settings.model, settings.version)
    _ = found.digest
    if settings.workers:
        listener = listen(settings.host, settings.port)
        began = time.monotonic()
        engines = len(settings.engine_devices)
        shape = f"{engines} engine{'s' * (engines > 1)}, {settings.workers} worker{'s' * (settings.workers > 1)}"
        greet = partial(_greet, settings, found, shape, began, listener)
        _exit(supervise(settings, found.digest, listener, on_ready=greet))
    memory.limit_arenas(available_cores())
    chosen = plan(settings)
    listener = listen(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # A thread that does not come back must not keep the process alive past its drain: asyncio would join the one
        # that waits for it, the interpreter those of the decode pool.
        _exit(runner.run(_serve(settings, chosen, found, listener)))


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


async def _serve(settings: Settings, chosen: Plan, found: Artifact, listener: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    metrics = Metrics()

    def on_fatal(reason: str) -> None:
        loop.call_soon_threadsafe(server.fail, reason, ENGINE_EXITS[engine.state])

    engine = create_engine(settings, chosen, found, metrics, on_fatal)
    metrics.watch(metrics.ready, lambda: float(engine.state == "ready"))
    app = create_app(settings, engine, found, metrics, chosen.capacity, memory.GiveBackWhenIdle(loop).worked)
    server = Server(config(app, settings, metrics), on_drain=app.inference.drain)
    start = asyncio.create_task(_start(settings, engine, server, found, listener))
    await server.serve(sockets=[listener])
    start.cancel()
    try:
        await asyncio.wait_for(engine.aclose(), timeout=server.drain_time_left)
    except TimeoutError:
        logger.error("the engine did not finish in time and was cut off")
    if server.failure is None:
        logger.info("stopped")
        return 0
    click.echo(f"error: {server.failure}", err=True)
    return server.exit_status


async def _start(
    settings: Settings, engine: LocalEngine, server: Server, found: Artifact, listener: socket.socket
) -> None:
    """Load the model while the server already answers health checks; then print where to go."""
    began = time.monotonic()
    try:
        await engine.start()
    except OperatorError as error:
        server.fail(str(error), exit_status=1)
        return
    memory.give_back()
    info = (await engine.ready()).info
    assert info is not None
    _greet(settings, found, f"{info.device}, {info.runtime}, {info.precision}", began, listener)


def _greet(settings: Settings, found: Artifact, shape: str, began: float, listener: socket.socket) -> None:
    base = base_url(listener)
    browser = ""
    if settings.page:
        browser = f"  {base}/          drop photos there, in a browser\n"
    elif settings.docs:
        browser = f"  {base}/docs      try it in a browser\n"
    click.echo(
        f"\nmobilenet-service {__version__}: {found.reference} ({shape}), ready in {time.monotonic() - began:.2f} s\n\n"
        f"{browser}"
        f"  {base}/classify  POST an image, get its classes\n"
        f"  {base}/explain   POST an image, get where in it they are\n"
        f"  {base}/embed     POST an image, get its feature vector\n"
        f"  {base}/metrics   Prometheus\n\n"
        f"  curl --data-binary @photo.jpg {base}/classify\n"
    )
    sys.stdout.flush()
