"""Keeps one process running: starts it, reads its heartbeat, kills it when it falls silent, replaces it when it ends.

starting ─► ready ─► ended ─► replaced at once
            └─► ended before it was ready ─► replaced after a pause that doubles ─► given up
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

from service.engine.client import ENGINE_EXITS
from service.processes.bootstrap import READY, Handover

logger = logging.getLogger(__name__)

#: Seconds between two checks of all processes. Silence is counted in checks, not in time: a supervisor that was itself
#: stopped or starved makes no checks meanwhile, so it kills no process for its own pause.
CHECK_S = 0.1
#: Almost five heartbeats. A process that is merely busy returns to its event loop many times in that time.
SILENT_CHECKS = 12
#: Five minutes: loading torch and capturing graphs takes one on a slow machine.
START_CHECKS = 3000

#: Pause after a process that ended before it was ready, first and longest; it doubles each time.
_RETRY_S = (0.2, 5.0)
#: Failed starts in a row.
GIVE_UP_AFTER = 5

ProcessState = Literal["starting", "ready", "ended", "given_up"]
PROCESS_STATES: tuple[ProcessState, ...] = get_args(ProcessState)

_EXIT_REASONS = {status: state for state, status in ENGINE_EXITS.items()}

#: The child gets this process's ``sys.path``, so that it imports the same modules wherever it was started from.
BOOT = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from service.host import process; process.ignore_harmless_signals(); "
    "from {module} import main; main()"
)


class ChildProcess:
    """One numbered process of the service, engine-0 or worker-1, through all its restarts."""

    def __init__(self, module: str, handover: Handover, on_exit: Callable[[ChildProcess, str], object]) -> None:
        """``module`` has a ``main``. ``on_exit`` gets the reason each time a process ends that was not told to."""
        self.name = handover.name
        self.worker_index = handover.worker_index
        self.state: ProcessState = "ended"
        self.status = 0  # exit status of the last process that ended
        self._module = module
        self._handover = handover
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._silent_checks = 0
        self._starts = 0
        self._failures = 0
        self._stopping = asyncio.Event()
        self._killed_as_silent = False

    async def run(self) -> None:
        """Run the process again and again, until ``stop`` or until ``state`` is given_up."""
        while not self._stopping.is_set():
            started = time.monotonic()
            self.state = "starting"
            self._starts += 1
            try:
                was_ready = await self._run_once()
            except OSError as error:
                logger.error("a process cannot be created: %s", error.strerror)
                was_ready, self.status = False, 1
            if self._stopping.is_set():
                break
            reason = self._exit_reason()
            fields = {"ended": self.name, "status": self.status, "reason": reason}
            duration = {"after_s": round(time.monotonic() - started, 1)}
            logger.error("a process has ended", extra={"fields": fields | duration})
            self._on_exit(self, reason)
            self._failures = 0 if was_ready else self._failures + 1
            if self._should_give_up():
                logger.error("gave up on a process that does not start", extra={"fields": fields})
                self.state = "given_up"
                return
            if self._failures:
                with contextlib.suppress(TimeoutError):
                    pause = min(_RETRY_S[0] * 2 ** (self._failures - 1), _RETRY_S[1])
                    await asyncio.wait_for(self._stopping.wait(), pause)

    def check(self) -> None:
        """Kill the process if it has been silent for too long. To be called every ``CHECK_S`` seconds."""
        self._silent_checks += 1
        limit = SILENT_CHECKS if self.state == "ready" else START_CHECKS
        if self._process is not None and self._silent_checks > limit and not self._stopping.is_set():
            self._killed_as_silent = True
            self._signal(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process to end, or kill it, and do not replace it."""
        self._stopping.set()
        self._signal(number)

    def change_keys(self, keys: Sequence[str]) -> None:
        """Tell the process, and every later one, the API keys that hold from now on."""
        self._handover = self._handover.with_keys(keys)
        self._write(json.dumps(keys).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended, which ``run`` notices
                self._process.stdin.write(line)

    async def _run_once(self) -> bool:
        """Whether the process was ready before it ended."""
        loop = asyncio.get_running_loop()
        pipe, heartbeat = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        handover = replace(self._handover, heartbeat=heartbeat)
        try:
            self._silent_checks, self._killed_as_silent = 0, False
            program = BOOT.format(module=self._module)
            try:
                self._process = process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-c", program, "mobilenet-service", self.name, *sys.path),
                    stdin=asyncio.subprocess.PIPE,
                    pass_fds=handover.inherited,
                    process_group=0,  # Ctrl-C reaches only the supervisor, which stops the others in order
                )
            finally:
                os.close(heartbeat)
            loop.add_reader(pipe, self._read_heartbeats, pipe)
            if self._stopping.is_set():
                self._signal(signal.SIGTERM)
            # Not ``handover``: the keys may have changed while the process was being created.
            self._write(replace(self._handover, heartbeat=heartbeat).dump())
            self.status = await process.wait()
            return self.state == "ready"
        finally:
            loop.remove_reader(pipe)
            os.close(pipe)
            self._process, self.state = None, "ended"

    def _read_heartbeats(self, pipe: int) -> None:
        with contextlib.suppress(BlockingIOError):
            if not (beats := os.read(pipe, 4096)):
                asyncio.get_running_loop().remove_reader(pipe)
                return
            if beats.endswith(READY):
                self.state = "ready"
        self._silent_checks = 0

    def _should_give_up(self) -> bool:
        """An operator's error shows at the first start and stays; other failures may pass."""
        return self._failures >= GIVE_UP_AFTER or (self._starts == 1 and self._failures > 0 and self.status == 1)

    def _exit_reason(self) -> str:
        if self._killed_as_silent:
            return "silent"
        if self.status < 0:
            return "killed"
        return _EXIT_REASONS.get(self.status, "error" if self.status else "stopped")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
