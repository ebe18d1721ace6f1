"""Loads versions of the served models and unloads them again, on the engine of this process."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from service.config import Settings
from service.engine.loaded_model import LoadedModel
from service.engine.local import LocalEngine
from service.host import memory
from service.metrics import Metrics
from service.model import aliases
from service.model.aliases import Aliases
from service.model.artifact import Artifact
from service.model.artifact import load as load_artifact
from service.serving import gate
from service.serving.build import Plan, create_served, runtime_loader
from service.serving.intake import Served
from service.store.locks import hold

#: Seconds between two looks at whether a version is still leased.
_POLL_S = 0.01


def desired_aliases(settings: Settings) -> dict[str, Aliases]:
    """Of each model to serve, the default one first: what aliases.json says, else the settings. OperatorError."""
    in_file = aliases.read(settings.model_store)
    return {name: in_file.get(name, Aliases(version)) for name, version in settings.versions.items()}


@dataclass(frozen=True)
class Versions:
    """The versions on ``engine``, which runs them all on the same threads. None changes on disk while it is there."""

    settings: Settings
    plan: Plan
    engine: LocalEngine
    metrics: Metrics
    _held: dict[str, AbstractContextManager[None]] = field(default_factory=dict)  # by reference

    def served(self, artifact: Artifact) -> Served:
        """``artifact``, which is about to be loaded. Raises OperatorError if a command is changing it."""
        held = hold(artifact.directory)
        held.__enter__()
        self._held[artifact.reference] = held
        client = LoadedModel(self.engine, artifact.reference)
        return create_served(self.settings, artifact, client, self.plan.max_pixels, self.metrics)

    async def load(self, name: str, version: str) -> Served:
        """Read, verify and load a version beside the others. Raises OperatorError, and leaves nothing behind then."""
        artifact = await asyncio.to_thread(load_artifact, self.settings.model_store, name, version)
        served = self.served(artifact)
        try:
            gate.check_memory(artifact, self.plan.options.runners)
            await self.load_beside(artifact)
        except BaseException:
            await self.unload(served)
            raise
        return served

    async def load_beside(self, artifact: Artifact) -> None:
        """Load ``artifact`` beside the versions that are there. Raises OperatorError."""
        load = runtime_loader(self.plan, artifact, self.metrics)
        await self.engine.load(artifact.reference, load, artifact.manifest.preprocessing.crop_size)

    async def unload(self, served: Served) -> None:
        """Once no request holds it."""
        while served.leases:  # noqa: ASYNC110  # requests pay for no event
            await asyncio.sleep(_POLL_S)
        await served.engine.aclose()
        memory.give_back()
        self._held.pop(served.reference).__exit__(None, None, None)
