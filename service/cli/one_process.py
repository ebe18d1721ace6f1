"""Runs the service as one process: HTTP, decoding and inference."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import uvloop

from service.config import Settings
from service.engine.client import ENGINE_EXITS
from service.errors import OperatorError
from service.host import memory
from service.host.cores import available_cores
from service.http.app import create_app
from service.http.server.http_server import Server
from service.metrics import Metrics
from service.model.aliases import Aliases
from service.model.artifact import Artifact
from service.serving.admin import listening_for_operator
from service.serving.build import Plan, create_engine, create_intake, engine_plan
from service.serving.changes import Changes, answer
from service.serving.lifecycle import Lifecycle, read_keys_again
from service.serving.registry import Registry
from service.serving.versions import Versions


def run_single(
    settings: Settings,
    artifacts: Sequence[Artifact],
    desired: Mapping[str, Aliases],
    listener: socket.socket,
    *,
    on_ready: Callable[[str], object],
) -> int:
    """Serve until SIGTERM, SIGINT or a final state of the engine; returns the exit status.

    ``artifacts`` are the stable versions of the models, the default one first; what else is ``desired`` follows once
    they are ready. The status is 0 after a drain, that of ``ENGINE_EXITS`` after a final state, 1 if the engine could
    not start. ``on_ready`` is called once, with a description of the device. Raises OperatorError before anything
    listens.
    """
    memory.limit_arenas(available_cores())
    plan = engine_plan(settings)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    # Not closed: asyncio would join a thread that waits for one that hangs, and the process could not end.
    return runner.run(_serve(settings, plan, artifacts, desired, listener, on_ready))


async def _serve(
    settings: Settings,
    plan: Plan,
    artifacts: Sequence[Artifact],
    desired: Mapping[str, Aliases],
    listener: socket.socket,
    on_ready: Callable[[str], object],
) -> int:
    loop = asyncio.get_running_loop()
    metrics, lifecycle = Metrics(), Lifecycle(settings.drain_timeout_ms / 1e3)

    def on_fatal(reason: str) -> None:
        loop.call_soon_threadsafe(lifecycle.fail, reason, ENGINE_EXITS[engine.state])

    engine = create_engine(settings, plan, artifacts[0], metrics, on_fatal)
    versions = Versions(settings, plan, engine, metrics)
    registry = Registry([versions.served(artifact) for artifact in artifacts], metrics)
    changes = Changes(registry, versions, keep_s=settings.keep_previous)

    def infers() -> bool:
        return all(engine.state_of(model.stable.reference) == "ready" for model in registry)

    metrics.watch(metrics.ready, lambda: float(infers() and not lifecycle.draining))
    intake = create_intake(settings, plan.max_in_flight, metrics, memory.GiveBackWhenIdle(loop).worked)
    app = create_app(settings, registry, intake, lifecycle, metrics)
    server = Server(app.front, settings, metrics, lifecycle)

    def read_again() -> None:
        keys = read_keys_again(settings)
        if keys is not None and app.api_keys is not None:
            app.api_keys.replace(keys)
        changes.read_again()

    lifecycle.on_reload(read_again)
    lifecycle.on_drain(registry.shadows.close)

    async def start() -> None:
        """Load the models while the server already answers health checks."""
        try:
            await engine.start()
            for artifact in artifacts[1:]:
                await versions.load_beside(artifact)
        except OperatorError as error:
            lifecycle.fail(str(error), exit_status=1)
            return
        memory.give_back()
        info = engine.info
        assert info is not None
        intake.admission.seed(info.batch_cost_seconds)
        on_ready(f"{info.device}, {info.name}, {info.precision}")
        await changes.apply(desired)

    starting = asyncio.create_task(start())
    async with listening_for_operator(settings.model_store, partial(answer, changes)):
        with lifecycle.signals():
            await server.serve(sockets=[listener])
            starting.cancel()
            return await lifecycle.close("the engine", engine.aclose())
