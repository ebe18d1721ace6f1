"""The engines and workers that serve one version, with what they alone have: a copy of it, and the engines' sockets.

To change the version, the supervisor starts another generation beside the one that serves. Its ``turn``, 0 or 1, keeps
the two apart: in the names of processes and among the ``ConnectionCounts``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from service.config import Settings
from service.errors import OperatorError
from service.metrics import Metrics, forget
from service.model.artifact import Manifest
from service.processes.bootstrap import Handover
from service.processes.child_process import ChildProcess
from service.processes.shared_listener import ConnectionCounts
from service.processes.version_copy import copy_version

logger = logging.getLogger(__name__)

#: As for a single process: new connections wait in the kernel while all workers are busy.
BACKLOG = 2048
#: How long workers may take beyond their drain, and engines to finish, before they are killed.
_BEYOND_DRAIN_S = 3.0
_ENGINE_STOP_S = 6.0

#: The modules whose ``main`` the processes run; a benchmark replaces them.
ENGINE_MODULE = "service.processes.engine_process"
WORKER_MODULE = "service.processes.worker_process"


class Shared(NamedTuple):
    """What all generations use."""

    directory: Path  # private to the service; of its metrics, and of its copies of versions
    listener: socket.socket
    counts: ConnectionCounts
    metrics: Metrics


class Generation:
    """Engines and workers from their start to their end."""

    def __init__(self, turn: int, settings: Settings, shared: Shared) -> None:
        """``settings`` have all keys in ``api_keys``."""
        self.turn = turn
        self.settings = settings
        self.manifest: Manifest | None = None  # of the version, once it has been copied
        self.engines: list[ChildProcess] = []
        self.workers: list[ChildProcess] = []
        #: How a process ended that was not told to.
        self.failure: str | None = None
        self._shared = shared
        self._store = shared.directory / f"versions-{turn}"
        self._sockets: list[socket.socket] = []
        self._tasks: dict[ChildProcess, asyncio.Task[None]] = {}  # in the order of their start
        self._stopping: asyncio.Task[None] | None = None

    def copy(self) -> None:
        """Verify and copy the version, which reads a disk. Raises OperatorError."""
        self.manifest = copy_version(self.settings, self._store)

    def start(self) -> None:
        """Start all processes. OperatorError if there can be no socket between them."""
        settings, shared = self.settings, self._shared
        given = self.settings_of_copy.model_dump(mode="json")
        common = Handover("", os.getpid(), str(shared.directory), given)
        addresses = []
        for index, device in enumerate(settings.engine_devices, self.turn * len(settings.engine_devices)):
            address, listener = _engine_socket()
            self._sockets.append(listener)
            addresses.append(address)
            handover = replace(common, name=f"engine-{index}", listener=listener.fileno(), device=device)
            self.engines.append(ChildProcess(ENGINE_MODULE, handover, self._on_exit))
        port, counts = shared.listener.fileno(), shared.counts.descriptor
        for index in range(self.turn * settings.workers, (self.turn + 1) * settings.workers):
            handover = replace(common, name=f"worker-{index}", listener=port, addresses=addresses, counts=counts)
            self.workers.append(ChildProcess(WORKER_MODULE, replace(handover, worker_index=index), self._on_exit))
        self._tasks = {child: asyncio.create_task(child.run()) for child in (*self.engines, *self.workers)}

    @property
    def settings_of_copy(self) -> Settings:
        """``settings``, of the service's own copy."""
        return self.settings.model_copy(update={"model_store": self._store})

    @property
    def reference(self) -> str:
        return f"{self.settings.model}/{self.settings.version}"

    @property
    def ready(self) -> bool:
        return all(child.state == "ready" for child in self._tasks)

    @property
    def some_ready(self) -> bool:
        """Whether an engine and a worker are."""
        return all(any(child.state == "ready" for child in kind) for kind in (self.engines, self.workers))

    @property
    def given_up(self) -> int | None:
        """An exit status for the service once there is no engine or no worker any more."""
        for kind in (self.engines, self.workers):
            if all(child.state == "given_up" for child in kind):
                return kind[0].status or 1
        return None

    def check(self) -> None:
        """As ``ChildProcess.check``."""
        for child in self._tasks:
            child.check()

    def change_keys(self, keys: Sequence[str]) -> None:
        self.settings = self.settings.model_copy(update={"api_keys": tuple(keys)})
        for worker in self.workers:
            worker.change_keys(keys)

    def stop(self) -> asyncio.Task[None]:
        """Begin to stop: workers drain, then engines end, then what was theirs is removed. Later calls change
        nothing."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        return self._stopping

    def kill(self) -> None:
        for child in self._tasks:
            child.stop(signal.SIGKILL)

    async def _stop(self) -> None:
        await self._stop_kind(self.workers, self.settings.drain_timeout_ms / 1e3 + _BEYOND_DRAIN_S)
        await self._stop_kind(self.engines, _ENGINE_STOP_S)
        for child in self._tasks:
            self._forget(child)
        for listener in self._sockets:
            listener.close()
        shutil.rmtree(self._store, ignore_errors=True)

    async def _stop_kind(self, children: Sequence[ChildProcess], timeout_s: float) -> None:
        if not self._tasks:
            return  # nothing has been started
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

    def _on_exit(self, child: ChildProcess, reason: str) -> None:
        self.failure = f"{child.name} ended ({reason}, status {child.status})"
        self._shared.metrics.process_exits.labels(child.name, reason).inc()
        self._forget(child)

    def _forget(self, child: ChildProcess) -> None:
        forget(self._shared.directory, child.name)
        if child.worker_index >= 0:
            self._shared.counts.clear(child.worker_index)


def _engine_socket() -> tuple[str, socket.socket]:
    """An abstract Unix socket. The supervisor holds it, so that workers may connect while an engine is replaced."""
    address = f"\0mobilenet-engine-{secrets.token_hex(16)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OperatorError(f"cannot create a socket between processes: {error.strerror}") from None
    listener.listen(BACKLOG)
    return address, listener
