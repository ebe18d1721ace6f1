"""From settings to a tree of processes, and back to none.

start: port ─► engines' sockets ─► engines ─► workers          stop: port ─► workers drain ─► engines ─► files
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from service import metrics
from service.config import Settings
from service.errors import OperatorError
from service.metrics import Metrics
from service.processes.child_process import STATES, TICK_S, Keeper
from service.processes.connection_counts import ConnectionCounts
from service.processes.handover import Handover, dump_settings
from service.processes.metrics_directory import metrics_directory

logger = logging.getLogger(__name__)

#: As for a single process: new connections wait in the kernel while everybody is busy.
_BACKLOG = 2048
#: What a worker takes beyond its drain, and an engine to finish, before they are killed.
_BEYOND_DRAIN_S = 3.0
_ENGINE_STOP_S = 6.0

#: Whose ``main`` a process of each kind runs; a benchmark replaces the engine's.
ENGINE_MODULE = "service.processes.engine_process"
WORKER_MODULE = "service.processes.worker_process"


def supervise(settings: Settings, digest: str, listener: socket.socket, *, on_ready: Callable[[str], object]) -> int:
    """Run the service until SIGTERM, SIGINT or until there is no use; the exit status.

    ``digest`` is that of the weights to be served. ``on_ready`` is called once, with the processes that are ready.
    """
    devices = settings.engine_devices
    listener.listen(_BACKLOG)
    with metrics_directory() as directory:
        metrics.share(str(directory), "supervisor")
        measured = Metrics()
        addresses, sockets = zip(*(_engine_socket() for _ in devices), strict=True)
        counts = ConnectionCounts.create(settings.workers)
        common = Handover("", os.getpid(), str(directory), dump_settings(settings), digest, len(devices))
        of_workers = replace(common, listener=listener.fileno(), addresses=list(addresses), counts=counts.descriptor)

        def ended(keeper: Keeper, reason: str) -> None:
            measured.process_exits.labels(keeper.name, reason).inc()
            metrics.forget(str(directory), keeper.name)
            if keeper.place >= 0:
                counts.leave(keeper.place)

        async def run() -> int:
            engines = [
                Keeper(
                    ENGINE_MODULE,
                    replace(common, name=f"engine-{index}", listener=sockets[index].fileno(), device=device),
                    ended,
                )
                for index, device in enumerate(devices)
            ]
            workers = [
                Keeper(WORKER_MODULE, replace(of_workers, name=f"worker-{index}", place=index), ended)
                for index in range(settings.workers)
            ]
            return await Supervisor(
                listener, engines, workers, measured, drain_s=settings.drain_timeout_ms / 1e3, on_ready=on_ready
            ).run()

        return asyncio.run(run())


class Supervisor:
    """Several keepers, in order. ``listener`` is the port; the workers have it too."""

    def __init__(
        self,
        listener: socket.socket,
        engines: Sequence[Keeper],
        workers: Sequence[Keeper],
        measured: Metrics,
        *,
        drain_s: float,
        on_ready: Callable[[str], object],
    ) -> None:
        self._listener = listener
        self._engines = engines
        self._workers = workers
        self._metrics = measured
        self._drain_s = drain_s
        self._on_ready = on_ready
        self._greeted = False
        self._told: asyncio.Event = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._tell, number)
        # In this order: who comes first is started first.
        tasks = {keeper: asyncio.create_task(keeper.run()) for keeper in self._everybody()}
        look = asyncio.create_task(self._look())
        told = asyncio.create_task(self._told.wait())
        await asyncio.wait([told, look], return_when=asyncio.FIRST_COMPLETED)
        status = 0 if self._told.is_set() else look.result()
        look.cancel()
        # Connections that no worker has taken would wait for ever in a queue that this process alone keeps open.
        self._listener.close()
        await self._stop([tasks[worker] for worker in self._workers], self._workers, self._drain_s + _BEYOND_DRAIN_S)
        await self._stop([tasks[engine] for engine in self._engines], self._engines, _ENGINE_STOP_S)
        logger.info("stopped")
        return status

    def _everybody(self) -> chain[Keeper]:
        return chain(self._engines, self._workers)

    async def _look(self) -> int:
        """At everybody, again and again; an exit status once there is no use in going on."""
        looks = 0
        while True:
            for keeper in self._everybody():
                keeper.tick()
            looks += 1
            if looks % 10 == 1:
                self._measure()
            if not self._greeted and all(
                any(k.state == "ready" for k in kind) for kind in (self._engines, self._workers)
            ):
                self._greeted = True
                self._on_ready(f"{_ready(self._engines, 'engine')}, {_ready(self._workers, 'worker')}")
            for kind in (self._engines, self._workers):
                if all(keeper.state == "given_up" for keeper in kind):
                    return kind[0].status or 1
            await asyncio.sleep(TICK_S)

    def _measure(self) -> None:
        for kind, keepers in (("engine", self._engines), ("worker", self._workers)):
            for state in STATES:
                self._metrics.processes.labels(kind, state).set(sum(keeper.state == state for keeper in keepers))
        self._metrics.sample()

    async def _stop(self, tasks: Sequence[asyncio.Task[None]], keepers: Sequence[Keeper], patience: float) -> None:
        for keeper in keepers:
            keeper.stop()
        _, late = await asyncio.wait(tasks, timeout=patience)
        if late:
            names = [keeper.name for keeper in keepers if keeper.pid is not None]
            logger.error("processes did not stop in time and were killed", extra={"fields": {"names": names}})
            for keeper in keepers:
                keeper.kill()
            await asyncio.wait(tasks)

    def _tell(self, number: signal.Signals) -> None:
        if self._told.is_set():
            for keeper in self._everybody():
                keeper.kill()
            logger.warning("a second signal: ended at once")
            os._exit(128 + number)
        logger.info("draining", extra={"fields": {"signal": int(number)}})
        self._told.set()


def _ready(keepers: Sequence[Keeper], kind: str) -> str:
    """2 workers, or 1 of 2 workers."""
    ready = sum(keeper.state == "ready" for keeper in keepers)
    known = f"{ready}" if ready == len(keepers) else f"{ready} of {len(keepers)}"
    return f"{known} {kind}{'s' * (len(keepers) > 1)}"


def _engine_socket() -> tuple[str, socket.socket]:
    """A listener without a file. It is the supervisor's: workers may connect while an engine is being replaced."""
    address = f"\0mobilenet-engine-{secrets.token_hex(16)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(address)
    except OSError as error:
        raise OperatorError(f"no socket between processes can be had: {error.strerror}") from None
    listener.listen(_BACKLOG)
    return address, listener
