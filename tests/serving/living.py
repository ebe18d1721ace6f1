"""Models with several versions on one engine, as a service has them: small networks, the real runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from service.config import Settings
from service.metrics import Metrics
from service.model.artifact import Artifact, load
from service.serving.build import create_engine, engine_plan
from service.serving.changes import Changes
from service.serving.registry import Registry
from service.serving.versions import Versions


class Living(NamedTuple):
    registry: Registry
    versions: Versions
    changes: Changes
    metrics: Metrics


@asynccontextmanager
async def living(store: Path, *references: str, keep_s: float = 60.0) -> AsyncIterator[Living]:
    """``references``, name/version, are served; other versions of the store can be."""
    settings, metrics = Settings(model_store=store, device="cpu", runners=1, models=references), Metrics()
    artifacts: list[Artifact] = [load(store, *reference.split("/")) for reference in references]
    plan = engine_plan(settings)
    engine = create_engine(settings, plan, artifacts[0], metrics, on_fatal=print)
    versions = Versions(settings, plan, engine, metrics)
    registry = Registry([versions.served(artifact) for artifact in artifacts], metrics)
    await engine.start()
    for artifact in artifacts[1:]:
        await versions.load_beside(artifact)
    try:
        yield Living(registry, versions, Changes(registry, versions, keep_s=keep_s), metrics)
    finally:
        await engine.aclose()
