"""Turns settings into a tree of processes, keeps it running, and takes it down again.

start: port ─► engines' sockets ─► engines ─► workers          stop: port ─► workers drain ─► engines ─► files
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from service.config import Settings
from service.errors import OperatorError
from service.metrics import Metrics, forget, share
from service.processes.bootstrap import Handover, dump_settings
from service.processes.child_process import CHECK_S, PROCESS_STATES, ChildProcess
from service.processes.metrics_directory import metrics_directory
from service.processes.shared_listener import ConnectionCounts
from service.serving.lifecycle import STOPPING, read_keys_again

logger = logging.getLogger(__name__)

#: As for a single process: new connections wait in the kernel while all workers are busy.
_BACKLOG = 2048
#: How long workers may take beyond their drain, and engines to finish, before they are killed.
_BEYOND_DRAIN_S = 3.0
_ENGINE_STOP_S = 6.0
#: The supervisor's metrics are sampled once per this many checks.
_CHECKS_PER_SAMPLE = 10

#: The modules whose ``main`` the processes run; a benchmark replaces the engine's.
ENGINE_MODULE = "service.processes.engine_process"
WORKER_MODULE = "service.processes.worker_process"


def supervise(settings: Settings, digest: str, listener: socket.socket, *, on_ready: Callable[[str], object]) -> int:
    """Run the service until SIGTERM or SIGINT, or until all engines or all workers are given up; the exit status.

    ``digest`` is that of the weights to serve. ``on_ready`` is called once, with a description of what is ready.
    """
    listener.listen(_BACKLOG)
    with metrics_directory() as directory:
        share(directory, "supervisor")
        metrics = Metrics()
        addresses, sockets = zip(*(_engine_socket() for _ in settings.engine_devices), strict=True)
        counts = ConnectionCounts.create(settings.workers)
        common = Handover("", os.getpid(), str(directory), dump_settings(settings), digest)
        for_workers = replace(common, listener=listener.fileno(), addresses=list(addresses), counts=counts.descriptor)

        def on_exit(child: ChildProcess, reason: str) -> None:
            metrics.process_exits.labels(child.name, reason).inc()
            forget(directory, child.name)
            if child.worker_index >= 0:
                counts.clear(child.worker_index)

        engines = []
        for index, device in enumerate(settings.engine_devices):
            handover = replace(common, name=f"engine-{index}", listener=sockets[index].fileno(), device=device)
            engines.append(ChildProcess(ENGINE_MODULE, handover, on_exit))
        workers = []
        for index in range(settings.workers):
            handover = replace(for_workers, name=f"worker-{index}", worker_index=index)
            workers.append(ChildProcess(WORKER_MODULE, handover, on_exit))
        drain_s = settings.drain_timeout_ms / 1e3
        keys = partial(read_keys_again, settings)
        supervisor = Supervisor(listener, engines, workers, metrics, keys, drain_s=drain_s, on_ready=on_ready)
        # Not closed: that would take back the signals' handlers, and what follows takes a moment in which they come.
        runner = asyncio.Runner()
        return runner.run(supervisor.run())


@dataclass
class Supervisor:
    """Starts and stops engines and workers in order. ``listener`` is the port, which the workers inherit."""

    listener: socket.socket
    engines: Sequence[ChildProcess]
    workers: Sequence[ChildProcess]
    metrics: Metrics
    read_keys_again: Callable[[], Sequence[str] | None]
    drain_s: float  # how long workers may take to stop
    on_ready: Callable[[str], object]
    _signalled: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: dict[ChildProcess, asyncio.Task[None]] = field(default_factory=dict)  # in the order of their start

    async def run(self) -> int:
        # Not the loop's own handlers: they go through a small pipe, and what finds it full is reported and lost.
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(self._handle_signal, number))
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._reload))
        self._tasks = {child: asyncio.create_task(child.run()) for child in (*self.engines, *self.workers)}
        status = await self._check_until_the_end()
        # Connections that no worker has accepted would wait for ever in a queue that only this process keeps open.
        self.listener.close()
        await self._stop(self.workers, self.drain_s + _BEYOND_DRAIN_S)
        await self._stop(self.engines, _ENGINE_STOP_S)
        logger.info("stopped")
        return status

    async def _check_until_the_end(self) -> int:
        """Check all processes until a signal, or until all of one kind are given up; returns the exit status."""
        checks, reported = 0, False
        while not self._signalled.is_set():
            for child in self._tasks:
                child.check()
            if checks % _CHECKS_PER_SAMPLE == 0:
                self._sample()
            checks += 1
            kinds = (self.engines, self.workers)
            if not reported and all(any(child.state == "ready" for child in kind) for kind in kinds):
                reported = True
                self.on_ready(f"{_count_ready(self.engines, 'engine')}, {_count_ready(self.workers, 'worker')}")
            for kind in kinds:
                if all(child.state == "given_up" for child in kind):
                    return kind[0].status or 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._signalled.wait()
        return 0

    def _sample(self) -> None:
        for kind, children in (("engine", self.engines), ("worker", self.workers)):
            for state in PROCESS_STATES:
                self.metrics.processes.labels(kind, state).set(sum(child.state == state for child in children))
        self.metrics.sample()

    async def _stop(self, children: Sequence[ChildProcess], timeout_s: float) -> None:
        for child in children:
            child.stop()
        tasks = [self._tasks[child] for child in children]
        await asyncio.wait(tasks, timeout=timeout_s)
        if late := [child for child in children if not self._tasks[child].done()]:
            names = [child.name for child in late]
            logger.error("processes did not stop in time and were killed", extra={"fields": {"names": names}})
            for child in late:
                child.stop(signal.SIGKILL)
            await asyncio.wait(tasks)

    def _reload(self) -> None:
        if (keys := self.read_keys_again()) is not None:
            for worker in self.workers:
                worker.change_keys(keys)

    def _handle_signal(self, number: int) -> None:
        if self._signalled.is_set():
            for child in self._tasks:
                child.stop(signal.SIGKILL)
            logger.warning("a second signal: ended at once")
            os._exit(128 + number)
        logger.info("draining", extra={"fields": {"signal": number}})
        self._signalled.set()


def _count_ready(children: Sequence[ChildProcess], kind: str) -> str:
    """2 workers, or 1 of 2 workers."""
    ready = sum(child.state == "ready" for child in children)
    count = f"{ready}" if ready == len(children) else f"{ready} of {len(children)}"
    return f"{count} {kind}{'s' * (len(children) > 1)}"


def _engine_socket() -> tuple[str, socket.socket]:
    """An abstract Unix socket. The supervisor holds it, so that workers may connect while an engine is replaced."""
    address = f"\0mobilenet-engine-{secrets.token_hex(16)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(address)
    except OSError as error:
        raise OperatorError(f"cannot create a socket between processes: {error.strerror}") from None
    listener.listen(_BACKLOG)
    return address, listener
