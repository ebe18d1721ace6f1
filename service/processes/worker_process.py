"""A worker process: HTTP and decoding, in front of engines in other processes."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

from service.config import Settings
from service.engine import ENGINE_EXITS
from service.host import memory
from service.host.capacity import worker_capacity
from service.host.cores import available_cores
from service.http.app import create_app
from service.http.server.http_server import Server, config
from service.metrics import Metrics
from service.processes import bootstrap as child
from service.processes.connection_counts import ConnectionCounts
from service.processes.handover import Handover
from service.processes.wire.remote_engine import RemoteEngine
from service.serving.build import wire_layout

logger = logging.getLogger(__name__)


async def serve(handover: Handover, metrics: Metrics) -> int:
    loop = asyncio.get_running_loop()
    settings = handover.load_settings()
    found = handover.load_artifact(settings)
    threads = decode_threads(settings)

    def on_fatal(reason: str) -> None:
        loop.call_soon_threadsafe(server.fail, reason, ENGINE_EXITS["hung"])

    engine = RemoteEngine(
        handover.addresses, wire_layout(found), decode_threads=threads, metrics=metrics, on_fatal=on_fatal
    )
    metrics.watch(metrics.ready, lambda: float(engine.state == "ready"))
    capacity = worker_capacity(settings, threads, len(handover.addresses))
    app = create_app(settings, engine, found, metrics, capacity, memory.GiveBackWhenIdle(loop).worked)
    counts = ConnectionCounts(handover.counts, settings.workers)

    def fewest(connections: int) -> int:
        counts.tell(handover.place, connections)
        return counts.fewest()

    server = Server(config(app, settings, metrics), on_drain=app.inference.drain, fewest=fewest)

    def ready() -> bool:
        if server.started:
            counts.tell(handover.place, server.connections)  # those that closed since the last was taken
        return server.started and engine.state == "ready"

    engine.start()
    heart = asyncio.ensure_future(child.beat(handover, metrics, ready=ready))
    await server.serve(sockets=[socket.socket(fileno=handover.listener)])
    try:
        await asyncio.wait_for(engine.aclose(), server.drain_time_left)
    except TimeoutError:
        logger.error("decoding did not finish in time and was cut off")
    heart.cancel()
    if server.failure is not None:
        sys.stderr.write(f"error: {server.failure}\n")
    return server.exit_status


def decode_threads(settings: Settings) -> int:
    """Two at least: connections are spread evenly over workers, what comes on them is not."""
    if settings.decode_threads != "auto":
        return settings.decode_threads
    return max(2, -(-available_cores() // settings.workers))


def main() -> None:
    child.run(serve)
