"""Changes which versions are served, under load: load beside, gate, switch, drain, unload.

    desired aliases ─► Versions.load ─► gate ─► ServedModel.switch ─► versions that nobody needs any more are unloaded
                            └────────────┴─► Verdict: refused, and everything is as it was

One change at a time. The service never writes the aliases' file: who asked for the change does, once it is done.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from service.errors import OperatorError
from service.model.aliases import Aliases, parse
from service.serving import gate
from service.serving.gate import Figures, Refused
from service.serving.intake import Served
from service.serving.registry import Registry, ServedModel
from service.serving.versions import Versions, desired_aliases

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a change; ``reason`` is one word, ``sentence`` is for an operator."""

    ok: bool
    reason: str
    sentence: str
    figures: dict[str, Any] = field(default_factory=dict)


class Changes:
    """``keep_s``: how long the previous stable version stays loaded, so that a rollback is immediate."""

    def __init__(self, registry: Registry, versions: Versions, *, keep_s: float) -> None:
        self._registry = registry
        self._versions = versions
        self._keep_s = keep_s
        self._running = asyncio.Lock()
        self._asked = False  # for a change that may not have begun
        self._given_up = False
        self._last: Verdict | None = None
        #: Loaded versions that have passed the gate: as one that may answer, as a shadow.
        self._passed = {model.stable.reference for model in registry}
        self._tried: set[str] = set()
        #: By reference: when a version that no alias names is to be unloaded, and that it is being unloaded.
        self._kept: dict[str, asyncio.TimerHandle] = {}
        self._retiring: dict[str, asyncio.Task[None]] = {}

    async def apply(self, desired: Mapping[str, Aliases], accept: Collection[str] = ()) -> Verdict:
        """Serve what ``desired`` says of the models that are served here; the others of it are for other services.

        If the call is cancelled, the change is given up unless it is done.
        """
        if self._asked or self._running.locked():
            return Verdict(False, "busy", "another change is under way")
        self._asked, self._given_up = True, False
        task = asyncio.create_task(self._apply_alone(desired, accept))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._given_up = True
            raise

    def read_again(self) -> None:
        """Serve what the file says now, or without one the settings. A refusal is logged."""
        try:
            desired = desired_aliases(self._versions.settings)
        except OperatorError as error:
            logger.error("the served versions stay as they were: %s", error)
            return
        self._reading = asyncio.create_task(self._apply_alone(desired))

    async def _apply_alone(self, desired: Mapping[str, Aliases], accept: Collection[str] = ()) -> Verdict:
        async with self._running:
            try:
                verdict = self._last = await self._apply(desired, accept)
            finally:
                self._asked = self._given_up = False
        level = logging.INFO if verdict.ok else logging.ERROR
        fields = {"reason": verdict.reason, **verdict.figures}
        logger.log(level, "change of the served versions: %s", verdict.sentence, extra={"fields": fields})
        return verdict

    async def _apply(self, desired: Mapping[str, Aliases], accept: Collection[str]) -> Verdict:
        started = time.monotonic()
        wanted = {model: desired[model.name] for model in self._registry if model.name in desired}
        if all(model.aliases == aliases for model, aliases in wanted.items()):
            return Verdict(True, "unchanged", "this is what is served already")
        loaded: list[Served] = []
        sentences, figures = [], Figures()
        try:
            for model, aliases in wanted.items():
                for version in aliases.versions:
                    if (served := model.versions.get(version)) is None:
                        served = await self._load(model.name, version)
                        loaded.append(served)
                    # A shadow is there to find out where it disagrees. If it is to answer later, that counts.
                    shadow = aliases.shadow is not None and version == aliases.shadow.version
                    if served.reference not in (self._tried if shadow else self._passed):
                        accepted = (*accept, *(["disagreement"] if shadow else []))
                        figures = await self._compare(served, model, accepted)
                        sentences.append(figures.sentence)
                        (self._tried if shadow else self._passed).add(served.reference)
            if self._given_up:
                raise Refused("cancelled", "who asked for the change no longer waits for it")
        except Exception as error:
            if not isinstance(error, Refused):
                logger.exception("a change failed")
                error = Refused("failed", f"the change failed ({type(error).__name__}); the log says where")
            for served in loaded:
                self._passed.discard(served.reference)
                self._tried.discard(served.reference)
            await asyncio.gather(*map(self._versions.unload, loaded))
            return Verdict(False, error.reason, str(error), numbers(error.figures, started))
        for served in loaded:
            self._registry.named(served.name).versions[served.version] = served
        for model, aliases in wanted.items():
            model.switch(aliases)
            self._retire_others(model)
        switched = "; ".join(f"{model.name}: {describe(aliases)}" for model, aliases in wanted.items())
        return Verdict(True, "switched", "; ".join([switched, *sentences]), numbers(figures, started))

    async def _load(self, name: str, version: str) -> Served:
        if (retiring := self._retiring.get(f"{name}/{version}")) is not None:
            await retiring  # it must not be half there
        while True:
            try:
                return await self._versions.load(name, version)
            except Refused as error:
                if error.reason != "memory" or not await self._unload_kept():
                    raise
            except OperatorError as error:
                raise gate.load_refusal(error) from None

    async def _unload_kept(self) -> bool:
        """Whether memory was freed: a rollback is not immediate then."""
        for model in self._registry:
            for version in model.versions.keys() - set(model.aliases.versions):
                self._retire(model, version)
        tasks = list(self._retiring.values())
        await asyncio.gather(*tasks)
        return bool(tasks)

    async def _compare(self, served: Served, model: ServedModel, accept: Collection[str]) -> Figures:
        store = self._versions.settings.model_store
        photos = await asyncio.to_thread(gate.parity_photos, store, model.name)
        return await gate.compare(served, model.stable, photos, accept)

    def _retire_others(self, model: ServedModel) -> None:
        """Unload the versions that no alias names: the previous stable one after ``keep_s``, others at once."""
        loop = asyncio.get_running_loop()
        for version, served in list(model.versions.items()):
            if (timer := self._kept.pop(served.reference, None)) is not None:
                timer.cancel()
            if version == model.previous and version not in model.aliases.versions and self._keep_s:
                self._kept[served.reference] = loop.call_later(self._keep_s, self._retire, model, version)
            elif version not in model.aliases.versions:
                self._retire(model, version)

    def _retire(self, model: ServedModel, version: str) -> None:
        served = model.versions.pop(version)
        self._passed.discard(served.reference)
        self._tried.discard(served.reference)
        if (timer := self._kept.pop(served.reference, None)) is not None:
            timer.cancel()
        task = self._retiring[served.reference] = asyncio.create_task(self._versions.unload(served))
        task.add_done_callback(lambda _: self._retiring.pop(served.reference))

    def status(self) -> dict[str, Any]:
        """What ``models status`` shows."""
        return {
            "store": str(self._versions.settings.model_store.resolve()),
            "pid": os.getpid(),
            "default": self._registry.default.name,
            "models": {model.name: _status(model) for model in self._registry},
            "last": asdict(self._last) if self._last else None,
        }


class Changeable(Protocol):
    """A service whose versions can be changed: one process, or a supervisor."""

    async def apply(self, desired: Mapping[str, Aliases], accept: Collection[str] = ()) -> Verdict: ...
    def status(self) -> dict[str, Any]: ...


async def answer(service: Changeable, message: dict[str, Any]) -> dict[str, Any]:
    """The answer to a ``message`` of the operator's socket. Raises OperatorError for one that is not understood."""
    if message.get("do") == "status":
        return service.status()
    if message.get("do") != "change" or not isinstance(message.get("aliases"), dict):
        raise OperatorError("this service understands status, and change with aliases")
    desired = parse(json.dumps(message["aliases"]).encode())
    return asdict(await service.apply(desired, message.get("accept", ())))


def describe(aliases: Aliases) -> str:
    """stable 2, canary 3 (10 %), shadow 4 (sample 0.1)"""
    parts = [f"stable {aliases.stable}"]
    if aliases.canary is not None:
        parts.append(f"canary {aliases.canary.version} ({aliases.canary.percent:g} %)")
    if aliases.shadow is not None:
        parts.append(f"shadow {aliases.shadow.version} (sample {aliases.shadow.sample:g})")
    return ", ".join(parts)


def numbers(figures: Figures, started: float) -> dict[str, Any]:
    """Of a verdict."""
    found = {"agreement": figures.agreement, "cosine": figures.cosine, "cost_ratio": figures.cost_ratio}
    rounded = {name: None if number is None else round(number, 4) for name, number in found.items()}
    return rounded | {"seconds": round(time.monotonic() - started, 3)}


def _status(model: ServedModel) -> dict[str, Any]:
    canary, shadow = model.aliases.canary, model.aliases.shadow
    return {
        "stable": model.aliases.stable,
        "canary": None
        if canary is None or model.split is None
        else asdict(canary) | {"effective": model.split.effective, "held": model.split.health.held},
        "shadow": None if shadow is None else asdict(shadow),
        "loaded": sorted(model.versions),
        "previous": model.previous,
    }
