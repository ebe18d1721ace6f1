"""Inference without a server: one model on an engine of this process, for commands and for bulk work."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from service.config import Settings
from service.engine.client import Source
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.model.outputs import ItemOutput
from service.serving.build import create_engine, create_served, engine_plan
from service.serving.intake import Served

#: A day: there is no deadline here, but the engine requires one.
_DEADLINE_S = 86_400.0


@asynccontextmanager
async def served_locally(
    settings: Settings, artifact: Artifact, on_fatal: Callable[[str], object], *, wide: bool = True
) -> AsyncIterator[Served]:
    """``artifact`` on an engine of this process, closed at the end; ``wide`` as in ``RuntimeOptions``."""
    plan, metrics = engine_plan(settings), Metrics()
    plan = plan._replace(options=dataclasses.replace(plan.options, wide=wide))
    engine = create_engine(settings, plan, artifact, metrics, on_fatal)
    try:
        await engine.start()
        yield create_served(settings, artifact, engine, plan.max_pixels, metrics)
    finally:
        await engine.aclose()


async def infer_locally(served: Served, source: Source, classes: Sequence[int] = ()) -> ItemOutput:
    """The outputs for one image, without a deadline. Raises ServiceError."""
    result = await served.engine.infer(served.reference, source, time.monotonic() + _DEADLINE_S, classes)
    return result.output


def for_one_photo(settings: Settings) -> Settings:
    """``settings`` without what only several photos need: a second runner, measuring the cost of batches."""
    return settings.model_copy(update={"runners": 1, "max_batch_size": 1})
