"""Turns settings into a tree of processes, keeps it running, replaces it by another, and takes it down again.

start: copy of the version ─► port ─► engines' sockets ─► engines ─► workers
change: copy of the new version ─► its engines and workers, until all are ready ─► switch ─► the old ones stop
stop: port ─► workers drain ─► engines ─► files
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.config import Settings
from service.errors import ArtifactError, OperatorError
from service.host import memory
from service.metrics import Metrics, share
from service.model.artifact import WEIGHTS
from service.processes.child_process import CHECK_S, PROCESS_STATES, START_CHECKS, ChildProcess
from service.processes.generation import BACKLOG, Generation, Shared
from service.processes.metrics_directory import metrics_directory
from service.processes.shared_listener import ConnectionCounts
from service.serving.lifecycle import STOPPING, read_keys_again

logger = logging.getLogger(__name__)

#: The supervisor's metrics are sampled once per this many checks.
_CHECKS_PER_SAMPLE = 10
#: How long replaced workers answer on the connections they have, and close each after its answer, before they drain.
#: Who asks within that time meets no connection that closes at that moment (ADR 6).
_LEAVE_S = 1.0
#: How long a change that is cut off may take to say so.
_CUT_OFF_S = 2.0


def supervise(settings: Settings, listener: socket.socket, *, on_ready: Callable[[str], object]) -> int:
    """Run the service until SIGTERM or SIGINT, or until all engines or all workers are given up; the exit status.

    ``on_ready`` is called once, with a description of what is ready.
    """
    memory.map_large_blocks()  # files of versions, while they are copied
    with metrics_directory() as directory:
        share(directory, "supervisor")
        supervisor = Supervisor(settings, directory, listener, on_ready)
        listener.listen(BACKLOG)
        # Not closed: that would take back the signals' handlers, and what follows takes a moment in which they come.
        runner = asyncio.Runner()
        return runner.run(supervisor.run())


class Outcome(NamedTuple):
    """Of a change: one word, and a sentence for people."""

    reason: str
    sentence: str

    @property
    def ok(self) -> bool:
        return self.reason in ("switched", "unchanged")


class Supervisor:
    """Starts, replaces and stops generations of processes."""

    def __init__(
        self, settings: Settings, directory: Path, listener: socket.socket, on_ready: Callable[[str], object]
    ) -> None:
        """``directory`` is that of the metrics, ``listener`` the port, which the workers inherit. OperatorError if the
        version cannot be served."""
        self._given = settings
        self._on_ready = on_ready
        self._metrics = Metrics()
        self._shared = Shared(directory, listener, ConnectionCounts.create(settings.workers), self._metrics)
        # Only this process reads the file of keys, so that all accept the same keys at any time.
        keyed = settings.model_copy(update={"api_keys": settings.accepted_keys(), "api_keys_file": None})
        #: The one that serves, and during a change the one that comes or goes.
        self._generations = [Generation(0, keyed, self._shared)]
        self._generations[0].copy()
        self._change: asyncio.Task[Outcome] | None = None
        self._signalled = asyncio.Event()
        self._ending = asyncio.Event()

    async def run(self) -> int:
        # Not the loop's own handlers: they go through a small pipe, and what finds it full is reported and lost.
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(self._handle_signal, number))
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._reload))
        self._generations[0].start()
        status = await self._check_until_the_end()
        self._ending.set()
        # Connections that no worker has accepted would wait for ever in a queue that only this process keeps open.
        self._shared.listener.close()
        await asyncio.gather(*(generation.stop() for generation in self._generations))
        if self._change is not None:
            await asyncio.wait([self._change], timeout=_CUT_OFF_S)
        logger.info("stopped")
        return status

    async def change(self, desired: Mapping[str, Any]) -> dict[str, Any]:
        """Serve what ``desired``, the content of aliases.json, says; the verdict, once that is so or is refused."""
        began = time.monotonic()
        present = self._generations[0].settings
        version = desired.get(present.model, {}).get("stable", "")
        if desired == {present.model: {"stable": version}}:
            outcome = await self.replace(present.model_copy(update={"version": version}))
        else:
            outcome = Outcome("failed", f"with workers, only the stable version of {present.model} can be changed")
        figures = {"agreement": None, "cosine": None, "cost_ratio": None, "seconds": time.monotonic() - began}
        return {"ok": outcome.ok, **outcome._asdict(), "figures": figures}

    async def replace(self, settings: Settings) -> Outcome:
        """Serve with ``settings``, of which only model and version may be new, as soon as all new processes can.

        Until then, or if one of them cannot, everything stays as it is. No request is refused in either case.
        """
        if self._change is not None and not self._change.done():
            return Outcome("busy", "another change is under way; wait for its end")
        self._change = asyncio.create_task(self._replace(settings))
        return await asyncio.shield(self._change)

    async def _replace(self, settings: Settings) -> Outcome:
        (old,) = self._generations
        new = Generation(1 - old.turn, settings, self._shared)
        self._generations.append(new)
        try:
            outcome = await self._prepare(new, old)
            if outcome.reason == "switched":
                self._shared.counts.switch(new.turn)
                self._generations.reverse()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), _LEAVE_S)
        finally:
            await self._generations[1].stop()
            del self._generations[1]
        level = logging.INFO if outcome.ok else logging.ERROR
        logger.log(level, outcome.sentence, extra={"fields": {"reason": outcome.reason}})
        return outcome

    async def _prepare(self, new: Generation, old: Generation) -> Outcome:
        """Bring all processes of ``new`` to where they can serve in place of ``old``; "switched" if they can."""
        stopping = Outcome("failed", "the service is stopping")
        try:
            await asyncio.to_thread(new.copy)
            if new.manifest == old.manifest:
                return Outcome("unchanged", f"{new.reference} is served already")
            if self._ending.is_set():
                return stopping
            new.start()
        except ArtifactError as error:
            there = (new.settings.model_store / new.reference / WEIGHTS).exists()
            return Outcome("corrupt" if there else "missing", str(error))
        except OperatorError as error:
            return Outcome("failed", str(error))
        for _ in range(START_CHECKS):
            if new.ready:
                return Outcome("switched", f"{new.reference} is served now")
            if self._ending.is_set():
                return stopping
            if new.failure is not None:
                return Outcome("failed", f"{new.reference} is not served: {new.failure}; the log has its error")
            await asyncio.sleep(CHECK_S)
        return Outcome("failed", f"{new.reference} is not served: not ready after {START_CHECKS * CHECK_S:.0f} s")

    async def _check_until_the_end(self) -> int:
        """Check all processes until a signal, or until all of one kind are given up; returns the exit status."""
        checks, reported = 0, False
        while not self._signalled.is_set():
            for generation in self._generations:
                generation.check()
            if checks % _CHECKS_PER_SAMPLE == 0:
                self._sample()
            checks += 1
            serving = self._generations[0]
            if not reported and serving.some_ready:
                reported = True
                self._on_ready(f"{_count_ready(serving.engines, 'engine')}, {_count_ready(serving.workers, 'worker')}")
            if len(self._generations) == 1 and (status := serving.given_up) is not None:
                return status
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._signalled.wait()
        return 0

    def _sample(self) -> None:
        engines = [child for generation in self._generations for child in generation.engines]
        workers = [child for generation in self._generations for child in generation.workers]
        for kind, children in (("engine", engines), ("worker", workers)):
            for state in PROCESS_STATES:
                self._metrics.processes.labels(kind, state).set(sum(child.state == state for child in children))
        self._metrics.sample()

    def _reload(self) -> None:
        if (keys := read_keys_again(self._given)) is not None:
            for generation in self._generations:
                generation.change_keys(keys)

    def _handle_signal(self, number: int) -> None:
        if self._signalled.is_set():
            for generation in self._generations:
                generation.kill()
            logger.warning("a second signal: ended at once")
            os._exit(128 + number)
        logger.info("draining", extra={"fields": {"signal": number}})
        self._signalled.set()


def _count_ready(children: Sequence[ChildProcess], kind: str) -> str:
    """2 workers, or 1 of 2 workers."""
    ready = sum(child.state == "ready" for child in children)
    count = f"{ready}" if ready == len(children) else f"{ready} of {len(children)}"
    return f"{count} {kind}{'s' * (len(children) > 1)}"
