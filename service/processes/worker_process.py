"""A worker process: HTTP and decoding, in front of engines in other processes."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

from service.config import Settings
from service.engine.client import ENGINE_EXITS
from service.host import memory
from service.http.app import create_app
from service.http.server.http_server import Server
from service.metrics import Metrics
from service.model.artifact import load as load_artifact
from service.processes.bootstrap import Handover, receive_keys, run_child, send_heartbeats
from service.processes.shared_listener import ConnectionCounts, SharedListener
from service.processes.wire.remote_engine import RemoteEngine
from service.processes.wire.slots import Layout
from service.serving.build import create_intake, create_served, worker_plan
from service.serving.lifecycle import Lifecycle
from service.serving.registry import Registry


async def serve(handover: Handover, settings: Settings, metrics: Metrics) -> int:
    loop = asyncio.get_running_loop()
    artifact = load_artifact(settings.model_store, settings.model, settings.version)
    counts = ConnectionCounts(handover.counts)
    lifecycle = Lifecycle(settings.drain_timeout_ms / 1e3)
    threads, max_in_flight, max_pixels = worker_plan(settings)
    intake = create_intake(settings, max_in_flight, metrics, memory.GiveBackWhenIdle(loop).worked)
    engine = RemoteEngine(
        artifact.reference,
        handover.addresses,
        Layout.of(artifact),
        decode_threads=threads,
        metrics=metrics,
        on_ready=lambda info: intake.admission.seed(info.batch_cost_seconds),
        on_fatal=lambda reason: lifecycle.fail(reason, ENGINE_EXITS["hung"]),
    )
    metrics.watch(metrics.ready, lambda: float(engine.state == "ready" and not lifecycle.draining))
    served = create_served(settings, artifact, engine, max_pixels, metrics)
    app = create_app(settings, Registry([served], metrics), intake, lifecycle, metrics)
    accept = partial(SharedListener, counts=counts, worker=handover.worker_index, ready=lambda: engine.state == "ready")
    server = Server(app.front, settings, metrics, lifecycle, accept=accept)

    def ready() -> bool:
        infers = engine.state == "ready"
        lifecycle.replaced = not counts.accepts(handover.worker_index)
        if server.started:
            # Connections may have closed since one was last accepted.
            counts.set(handover.worker_index, server.connections, ready=infers)
        return server.started and infers

    engine.start()
    heartbeats = asyncio.ensure_future(send_heartbeats(handover, metrics, ready=ready))
    changes = asyncio.ensure_future(receive_keys(app.api_keys.replace)) if app.api_keys else None
    with lifecycle.signals():
        await server.serve(sockets=[socket.socket(fileno=handover.listener)])
        status = await lifecycle.close("decoding", engine.aclose())
    heartbeats.cancel()
    if changes is not None:
        changes.cancel()
    return status


def main() -> None:
    run_child(serve)
