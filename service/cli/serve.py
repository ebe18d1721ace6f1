"""``mobilenet-service serve``: one process that answers HTTP, from start to drain.

SIGTERM or SIGINT ─► readiness off ─► listener closes ─► requests in flight finish ─► engine closes ─► exit 0
a second signal   ─► exit at once
engine at an end  ─► the same drain, 70 lost, 71 failing for good, 72 hung (1 if it never was ready)
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import click
import uvicorn
import uvloop
from uvicorn.protocols.http import httptools_impl

from service import __version__, artifact, logs, memory
from service.artifact import Artifact
from service.cli.options import setting_options, settings_from
from service.compose import Plan, create_engine, plan
from service.config import Settings
from service.cores import available_cores
from service.engine import LocalEngine, State
from service.errors import OperatorError
from service.http.app import Service, create_app
from service.http.connection import protocol
from service.metrics import Metrics

logger = logging.getLogger(__name__)

#: By the state in which the engine ended; an orchestrator should start another process. 70 is sysexits.h's EX_SOFTWARE.
ENGINE_EXITS: dict[State, int] = {"lost": 70, "failed": 71, "hung": 72}


@click.command()
@setting_options()
def serve(**given: Any) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C."""
    settings = settings_from(**given)
    logs.configure(settings.log_format, settings.log_level)
    memory.limit_arenas(max(2, available_cores() // 2))
    # Refused here, before anything listens, if manifest, labels or devices are not in order.
    found = artifact.load(settings.model_store, settings.model, settings.version)
    _ = found.digest
    chosen = plan(settings)
    listener = _listen(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_serve(settings, chosen, found, listener))
        sys.stdout.flush()
        sys.stderr.flush()
        # A thread that does not come back must not keep the process alive past its drain: asyncio would join the one
        # that waits for it, the interpreter those of the decode pool.
        os._exit(status)


async def _serve(settings: Settings, chosen: Plan, found: Artifact, listener: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    metrics = Metrics()

    def on_lost(reason: str) -> None:
        loop.call_soon_threadsafe(server.fail, reason, ENGINE_EXITS[engine.state])

    engine = create_engine(settings, chosen, found, metrics, on_lost)
    app = create_app(settings, engine, found, metrics, chosen.capacity, memory.GiveBackWhenIdle(loop).worked)
    server = _Server(_config(app, settings, metrics), on_drain=app.inference.drain)
    start = asyncio.create_task(_start(engine, server, found, listener))
    await server.serve(sockets=[listener])
    start.cancel()
    try:
        # The drain's time is spent once: what the requests have used of it, the engine does not get again.
        await asyncio.wait_for(engine.aclose(), timeout=max(1.0, server.drain_ends - time.monotonic()))
    except TimeoutError:
        logger.error("the engine did not finish in time and was cut off")
    if server.failure is None:
        logger.info("stopped")
        return 0
    click.echo(f"error: {server.failure}", err=True)
    return server.exit_status


#: Room for an ordinary photo, in the socket and in the parser: each piece of a body wakes the event loop, and a runner
#: is interrupted for it. Together 3 % of the throughput at 117 kB a photo.
_RECEIVE_BUFFER = 2**20
_UNREAD_BODY = 2**18

#: Kept for what is no connection: 14 files on a CPU, more with a driver, and those of /docs.
_OTHER_FILES = 128


def _config(app: Service, settings: Settings, metrics: Metrics) -> uvicorn.Config:
    # uvicorn stops reading a connection whose request holds this much that the application has not asked for yet. There
    # is no option for it.
    httptools_impl.HIGH_WATER_LIMIT = _UNREAD_BODY  # type: ignore[attr-defined]  # imported there, not exported
    return uvicorn.Config(
        app,
        loop="none",
        http=protocol(metrics, max_connections=min(settings.max_connections, _file_limit() - _OTHER_FILES)),
        ws="none",
        lifespan="off",
        proxy_headers=False,  # nobody reads them; the wrapper is one more call a request
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        # Longer than the idle time-outs of the usual balancers, so that they close first and never race a request.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_ms / 1e3),
    )


def _file_limit() -> int:
    """Raise it as far as it may be: it is often 1024, for the sake of select(), which nothing here uses."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class _Server(uvicorn.Server):
    """uvicorn's server with our drain: readiness goes first, and a drained process exits with status 0."""

    def __init__(self, config: uvicorn.Config, *, on_drain: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_drain = on_drain
        self.failure: str | None = None
        self.exit_status = 0
        self.drain_ends = math.inf  # time.monotonic()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not super(): it would raise the signal again after the drain, and end a clean stop with a signal's status.
        if self.should_exit:
            os._exit(128 + sig)
        logger.info("draining", extra={"fields": {"signal": int(sig)}})
        self._drain()

    def fail(self, reason: str, exit_status: int) -> None:
        self.failure = reason
        self.exit_status = exit_status
        self._drain()

    def _drain(self) -> None:
        if self.should_exit:
            return  # a drain has one end, whatever happens meanwhile
        self._on_drain()
        self.drain_ends = time.monotonic() + (self.config.timeout_graceful_shutdown or 0)
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection, and no more than an upper bound: a photo arrives in one piece, not in three.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        listener.bind((host, port))
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from None
    return listener


async def _start(engine: LocalEngine, server: _Server, found: Artifact, listener: socket.socket) -> None:
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
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    base = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else shown}:{port}"
    click.echo(
        f"\nmobilenet-service {__version__}: {found.reference} on {info.device} "
        f"({info.runtime}, {info.precision}), loaded in {time.monotonic() - began:.2f} s\n\n"
        f"  {base}/docs      try it in a browser\n"
        f"  {base}/classify  POST an image, get its classes\n"
        f"  {base}/embed     POST an image, get its feature vector\n"
        f"  {base}/metrics   Prometheus\n\n"
        f"  curl --data-binary @photo.jpg {base}/classify\n"
    )
    sys.stdout.flush()
