"""An engine process: one device, one ``LocalEngine``, images from every worker."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys

from service.engine import ENGINE_EXITS
from service.host import memory
from service.metrics import Metrics
from service.processes import bootstrap
from service.processes.handover import Handover
from service.processes.wire.engine_server import EngineServer
from service.processes.wire.slots import Layout
from service.serving.build import create_engine, plan

logger = logging.getLogger(__name__)

#: For the last batches. The workers, who wait for them, have ended before.
_CLOSE_S = 5.0


async def serve(handover: Handover, metrics: Metrics) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str | None] = loop.create_future()  # the reason; None if it was told to stop

    def end(reason: str | None = None) -> None:
        if not ended.done():
            ended.set_result(reason)

    loop.add_signal_handler(signal.SIGTERM, end)
    settings = handover.load_settings().model_copy(update={"device": handover.device})
    artifact = handover.load_artifact(settings)
    # Workers decode.
    planned = plan(settings, engines=handover.engines)._replace(decode_threads=0)
    engine = create_engine(
        settings, planned, artifact, metrics, on_fatal=lambda reason: loop.call_soon_threadsafe(end, reason)
    )
    server = EngineServer(engine, socket.socket(fileno=handover.listener), Layout.of(artifact))
    heart = asyncio.ensure_future(bootstrap.beat(handover, metrics, ready=lambda: engine.info is not None))
    await server.start()
    memory.give_back()
    reason = await ended
    if reason is not None:
        sys.stderr.write(f"error: {reason}\n")
    status = 0 if reason is None else ENGINE_EXITS[engine.state]
    try:
        await asyncio.wait_for(server.aclose(), _CLOSE_S)
    except TimeoutError:
        logger.error("the engine did not finish in time and was cut off")
    heart.cancel()
    return status


def main() -> None:
    bootstrap.run(serve)
