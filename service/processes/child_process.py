"""Keeps one process running: starts it, hears its heartbeat, kills it when it is silent, starts another when it ends.

start ─► starting ─► ready ─► ended ─► at once another
            └─► ended before it was ready ─► another after a pause that doubles ─► given up
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from service.engine import ENGINE_EXITS
from service.processes.bootstrap import READY
from service.processes.handover import Handover

logger = logging.getLogger(__name__)

#: Between two looks at everybody. Silence is counted in looks, not in time: a supervisor that was itself stopped or
#: starved looks at nobody meanwhile, and blames nobody for it.
TICK_S = 0.1
#: Five heartbeats missed. In that time a process that is merely busy comes to its event loop many times.
SILENT_TICKS = 12
#: Loading torch and capturing graphs on a slow machine takes a minute.
START_TICKS = 3000

#: Before another is started after one that never was ready; doubling.
_RETRY_S = (0.2, 5.0)
#: Failed starts in a row.
GIVE_UP_AFTER = 5

State = Literal["starting", "ready", "ended", "given_up"]
STATES: tuple[State, ...] = ("starting", "ready", "ended", "given_up")

_REASONS = {status: state for state, status in ENGINE_EXITS.items()}

#: ``sys.path`` as it is here, so that the child imports what its supervisor did, wherever it was started from.
_BOOT = "import sys; sys.path[:] = sys.argv[3:]; from {module} import main; main()"


class Keeper:
    """One place, engine-0 or worker-1, and the process that fills it."""

    def __init__(
        self,
        module: str,
        handover: Handover,
        on_exit: Callable[[Keeper, str], object],
    ) -> None:
        """``module`` has a ``main``. ``on_exit`` is told why each process ended, unless it was told to stop."""
        self.name = handover.name
        self.place = handover.place  # of a worker among the counts; -1 of an engine
        self.state: State = "ended"
        self.status = 0  # of the last process that ended
        self.pid: int | None = None
        self._module = module
        self._handover = handover
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._silent = 0
        self._lives = 0
        self._failures = 0
        self._stopping = asyncio.Event()
        self._silenced = False
        self._was_ready = False

    async def run(self) -> None:
        """Until ``stop``, or until there is no use in going on: then ``state`` is given_up."""
        while not self._stopping.is_set():
            began = time.monotonic()
            was_ready = await self._live()
            if self._stopping.is_set():
                break
            reason = self._reason()
            fields = {"ended": self.name, "status": self.status, "reason": reason}
            logger.error(
                "a process has ended", extra={"fields": fields | {"after_s": round(time.monotonic() - began, 1)}}
            )
            self._on_exit(self, reason)
            self._failures = 0 if was_ready else self._failures + 1
            if self._hopeless():
                logger.error("gave up on a process that does not start", extra={"fields": fields})
                self.state = "given_up"
                return
            if self._failures:
                with contextlib.suppress(TimeoutError):
                    pause = min(_RETRY_S[0] * 2 ** (self._failures - 1), _RETRY_S[1])
                    await asyncio.wait_for(self._stopping.wait(), pause)

    def tick(self) -> None:
        """To be called every ``TICK_S`` seconds."""
        self._silent += 1
        limit = SILENT_TICKS if self.state == "ready" else START_TICKS
        if self._process is not None and self._silent > limit and not self._stopping.is_set():
            self._silenced = True
            self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Tell the process to end, and start no other."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def _live(self) -> bool:
        """One process from its start to its end; whether it ever was ready."""
        heard, heartbeat = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        handover = replace(self._handover, heartbeat=heartbeat)
        try:
            self._silent, self._silenced, self._was_ready, self.state = 0, False, False, "starting"
            self._lives += 1
            self._process = process = await asyncio.create_subprocess_exec(
                *_command(self._module, self.name),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=handover.inherited,
                process_group=0,  # Ctrl-C is for the supervisor, which stops everybody in order
            )
        finally:
            os.close(heartbeat)
        loop = asyncio.get_running_loop()
        self.pid = process.pid
        loop.add_reader(heard, self._hear, heard)
        try:
            assert process.stdin is not None
            with contextlib.suppress(ConnectionError):
                process.stdin.write(handover.dump())
                process.stdin.close()
            if self._stopping.is_set():
                self._signal(signal.SIGTERM)
            self.status = await process.wait()
        finally:
            loop.remove_reader(heard)
            os.close(heard)
            self._process, self.pid, self.state = None, None, "ended"
        return self._was_ready

    def _hear(self, heard: int) -> None:
        said = b""
        with contextlib.suppress(BlockingIOError):
            said = os.read(heard, 4096)
            if not said:
                asyncio.get_running_loop().remove_reader(heard)
                return
        self._silent = 0
        if said.endswith(READY):
            self.state, self._was_ready = "ready", True

    def _hopeless(self) -> bool:
        """An operator's error shows at the first start and does not go away; anything else may."""
        return self._failures >= GIVE_UP_AFTER or (self._lives == 1 and self._failures > 0 and self.status == 1)

    def _reason(self) -> str:
        if self._silenced:
            return "silent"
        if self.status < 0:
            return "killed"
        return _REASONS.get(self.status, "error" if self.status else "stopped")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def _command(module: str, name: str) -> Sequence[str]:
    return [sys.executable, "-c", _BOOT.format(module=module), "mobilenet-service", name, *sys.path]
