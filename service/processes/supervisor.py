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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from service.config import Settings
from service.errors import OperatorError
from service.host import memory
from service.metrics import Metrics, share
from service.model.aliases import Aliases
from service.processes.child_process import CHECK_S, PROCESS_STATES, START_CHECKS, ChildProcess
from service.processes.generation import BACKLOG, Generation, Shared
from service.processes.metrics_directory import metrics_directory
from service.processes.shared_listener import ConnectionCounts
from service.processes.trial import try_version
from service.serving import gate
from service.serving.admin import listening_for_operator
from service.serving.changes import Verdict, answer, numbers
from service.serving.gate import Figures, Refused
from service.serving.lifecycle import STOPPING, read_keys_again
from service.serving.versions import desired_aliases

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


class _Unchanged(Exception):
    """The version has the same manifest."""


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
        keyed = {"api_keys": settings.accepted_keys(), "api_keys_file": None}
        name, version = _only_version(settings)
        #: The one that serves, and during a change the one that comes or goes.
        first = settings.model_copy(update=keyed | {"model": name, "version": version, "models": ()})
        self._generations = [Generation(0, first, self._shared)]
        self._generations[0].copy()
        self._change: asyncio.Task[Verdict] | None = None
        self._previous: str | None = None
        self._last: Verdict | None = None
        self._signalled = asyncio.Event()
        self._ending = asyncio.Event()

    async def run(self) -> int:
        # Not the loop's own handlers: they go through a small pipe, and what finds it full is reported and lost.
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(self._handle_signal, number))
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._reload))
        self._generations[0].start()
        async with listening_for_operator(self._given.model_store, partial(answer, self)):
            status = await self._check_until_the_end()
            self._ending.set()
        # Connections that no worker has accepted would wait for ever in a queue that only this process keeps open.
        self._shared.listener.close()
        await asyncio.gather(*(generation.stop() for generation in self._generations))
        if self._change is not None:
            await asyncio.wait([self._change], timeout=_CUT_OFF_S)
        logger.info("stopped")
        return status

    async def apply(self, desired: Mapping[str, Aliases], accept: Collection[str] = ()) -> Verdict:
        """Serve the stable version that ``desired`` says of the model, as soon as all new processes can.

        Until then, or if one of them cannot, everything stays as it is. No request is refused in either case.
        """
        present = self._generations[0].settings
        aliases = desired.get(present.model, Aliases(present.version))
        if aliases != Aliases(aliases.stable):
            return Verdict(False, "failed", "with workers there are no canaries and no shadows")
        if self._change is not None and not self._change.done():
            return Verdict(False, "busy", "another change is under way; wait for its end")
        if present.model not in desired:
            return Verdict(True, "unchanged", "this is what is served already")
        settings = present.model_copy(update={"version": aliases.stable})
        self._change = asyncio.create_task(self._replace(settings, accept))
        return await asyncio.shield(self._change)

    async def _replace(self, settings: Settings, accept: Collection[str]) -> Verdict:
        (old,), began, figures = self._generations, time.monotonic(), Figures()
        new = Generation(1 - old.turn, settings, self._shared)
        self._generations.append(new)
        try:
            try:
                figures = await self._prepare(new, old, accept)
                verdict = Verdict(True, "switched", f"{new.reference} is served now", numbers(figures, began))
            except _Unchanged:
                verdict = Verdict(True, "unchanged", f"{new.reference} is served already")
            except Refused as error:
                verdict = Verdict(False, error.reason, str(error), numbers(error.figures, began))
            if verdict.reason == "switched":
                self._previous = old.settings.version
                self._shared.counts.switch(new.turn)
                self._generations.reverse()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), _LEAVE_S)
        finally:
            await self._generations[1].stop()
            del self._generations[1]
        self._last = verdict
        level = logging.INFO if verdict.ok else logging.ERROR
        logger.log(level, verdict.sentence, extra={"fields": {"reason": verdict.reason, **verdict.figures}})
        return verdict

    async def _prepare(self, new: Generation, old: Generation, accept: Collection[str]) -> Figures:
        """Bring all processes of ``new`` to where they can serve in place of ``old``. Raises Refused or _Unchanged."""
        try:
            await asyncio.to_thread(new.copy)
            if new.manifest == old.manifest:
                raise _Unchanged
            figures = await try_version(new.settings_of_copy, old.settings_of_copy, self._given.model_store, accept)
            if self._ending.is_set():
                raise Refused("failed", "the service is stopping")
            new.start()
        except Refused:
            raise
        except OperatorError as error:
            raise gate.load_refusal(error) from None
        for _ in range(START_CHECKS):
            if new.ready:
                return figures
            if self._ending.is_set():
                raise Refused("failed", "the service is stopping")
            if new.failure is not None:
                sentence = f"{new.reference} is not served: {new.failure}; the log has its error"
                raise Refused("failed", sentence, figures)
            await asyncio.sleep(CHECK_S)
        sentence = f"{new.reference} is not served: not ready after {START_CHECKS * CHECK_S:.0f} s"
        raise Refused("failed", sentence, figures)

    def status(self) -> dict[str, Any]:
        """As ``Changes.status``."""
        settings = self._generations[0].settings
        version = settings.version
        model = {"stable": version, "canary": None, "shadow": None, "loaded": [version], "previous": self._previous}
        return {
            "store": str(self._given.model_store.resolve()),
            "default": settings.model,
            "models": {settings.model: model},
            "last": asdict(self._last) if self._last else None,
        }

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
        self._rereading = asyncio.create_task(self._read_aliases_again())

    async def _read_aliases_again(self) -> None:
        try:
            name, version = _only_version(self._given)
        except OperatorError as error:
            logger.error("the served version stays as it was: %s", error)
            return
        verdict = await self.apply({name: Aliases(version)})
        if verdict.reason == "busy":
            logger.error("the served version stays as it was: %s", verdict.sentence)

    def _handle_signal(self, number: int) -> None:
        if self._signalled.is_set():
            for generation in self._generations:
                generation.kill()
            logger.warning("a second signal: ended at once")
            os._exit(128 + number)
        logger.info("draining", extra={"fields": {"signal": number}})
        self._signalled.set()


def _only_version(settings: Settings) -> tuple[str, str]:
    """Of the model to serve: its name and version. OperatorError if settings and aliases ask for more than one."""
    desired = desired_aliases(settings)
    if len(desired) > 1 or any(len(aliases.versions) > 1 for aliases in desired.values()):
        raise OperatorError("with workers one version of one model can be served: no second model, canary or shadow")
    ((name, aliases),) = desired.items()
    return name, aliases.stable


def _count_ready(children: Sequence[ChildProcess], kind: str) -> str:
    """2 workers, or 1 of 2 workers."""
    ready = sum(child.state == "ready" for child in children)
    count = f"{ready}" if ready == len(children) else f"{ready} of {len(children)}"
    return f"{count} {kind}{'s' * (len(children) > 1)}"
