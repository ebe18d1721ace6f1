"""An engine process: one device, one ``LocalEngine``, images from all workers."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket

from service.config import Settings
from service.engine.client import ENGINE_EXITS
from service.host import memory
from service.host.process import say
from service.metrics import Metrics
from service.model.artifact import load as load_artifact
from service.processes.bootstrap import Handover, run_child, send_heartbeats
from service.processes.wire.engine_server import EngineServer
from service.processes.wire.slots import Layout
from service.serving.build import create_engine, engine_plan

logger = logging.getLogger(__name__)

#: Time for the last batches. The workers that wait for them have already ended.
_CLOSE_S = 5.0


async def serve(handover: Handover, settings: Settings, metrics: Metrics) -> int:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str | None] = loop.create_future()  # why the engine failed; None after SIGTERM

    def end(failure: str | None = None) -> None:
        if not stop.done():
            stop.set_result(failure)

    loop.add_signal_handler(signal.SIGTERM, end)
    settings = settings.model_copy(update={"device": handover.device})
    artifact = load_artifact(settings.model_store, settings.model, settings.version)
    plan = engine_plan(settings, engines=len(settings.engine_devices))._replace(decode_threads=0)  # the workers decode
    engine = create_engine(
        settings, plan, artifact, metrics, on_fatal=lambda reason: loop.call_soon_threadsafe(end, reason)
    )
    server = EngineServer(engine, socket.socket(fileno=handover.listener), Layout.of(artifact))
    heartbeats = asyncio.ensure_future(send_heartbeats(handover, metrics, ready=lambda: engine.info is not None))
    await server.start()
    memory.give_back()
    failure = await stop
    if failure is not None:
        say(f"error: {failure}")
    status = 0 if failure is None else ENGINE_EXITS[engine.state]
    try:
        await asyncio.wait_for(server.aclose(), _CLOSE_S)
    except TimeoutError:
        logger.error("the engine did not finish in time and was cut off")
    heartbeats.cancel()
    return status


def main() -> None:
    run_child(serve)
