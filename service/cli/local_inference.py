"""Inference without a server, shared by ``classify``, ``embed`` and ``explain``.

files ─► inspect, preprocess ─► a LocalEngine of this process ─► one output or error per file
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import click

from service import logs
from service.config import Settings
from service.engine.client import Decode, Source
from service.errors import OperatorError, ServiceError
from service.host.cores import available_cores
from service.image import Findings, Pixels, inspect
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.model.artifact import load as load_artifact
from service.model.outputs import ItemOutput
from service.serving.build import create_engine, create_served, engine_plan
from service.serving.intake import Served
from service.store.photos import image_files, read_photo
from service.store.write import replace_files

#: The settings that have an effect without a server.
LOCAL_SETTINGS = (
    "model_store",
    "model",
    "version",
    "device",
    "runtime",
    "precision",
    "decode",
    "damaged",
    "max_pixels",
)

#: A day: a local command has no deadline, but the engine requires one.
_DEADLINE_S = 86_400.0

#: Fewer files than this take too little time for a progress bar.
_MIN_FILES_FOR_BAR = 20


def files_of(paths: Sequence[Path]) -> list[Path]:
    """``paths``, with each folder replaced by the images in it. Says what else is in a folder."""

    def warn(sentence: str) -> None:
        click.echo(f"warning: {sentence}", err=True)

    return [file for path in paths for file in (image_files(path, warn) if path.is_dir() else [path])]


def infer_files(settings: Settings, files: Sequence[Path]) -> tuple[Artifact, list[ItemOutput | ServiceError]]:
    """The model of ``settings``, and its output or a ServiceError for each of ``files``."""
    artifact = load_artifact(settings.model_store, settings.model, settings.version)
    with click.progressbar(
        length=len(files),
        label="photos",
        file=sys.stderr,
        hidden=len(files) < _MIN_FILES_FOR_BAR or not sys.stderr.isatty(),
    ) as bar:
        return artifact, asyncio.run(_infer_all(settings, artifact, files, lambda: bar.update(1)))


async def _infer_all(
    settings: Settings, artifact: Artifact, files: Sequence[Path], advance: Callable[[], None]
) -> list[ItemOutput | ServiceError]:
    # Enough files at once to keep decoders and runners busy; the others are not read yet.
    room = asyncio.Semaphore(4 * available_cores() + 64)

    async def infer(path: Path) -> ItemOutput | ServiceError:
        def pixels() -> Pixels:
            data = read_photo(path)
            return served.source(data, inspect(data, served.limits), findings).call()

        findings = Findings()

        async with room:
            try:
                output = await infer_locally(served, Decode(pixels))
                for warning in findings.warnings:
                    click.echo(f"warning: {path}: {warning}", err=True)
                return output
            except ServiceError as error:
                return error
            finally:
                advance()

    async with served_locally(for_one_photo(settings) if len(files) == 1 else settings, artifact) as served:
        return await asyncio.gather(*map(infer, files))


def for_one_photo(settings: Settings) -> Settings:
    """``settings`` without what only several photos need: a second runner, measuring the cost of batches."""
    return settings.model_copy(update={"runners": 1, "max_batch_size": 1})


@asynccontextmanager
async def served_locally(settings: Settings, artifact: Artifact) -> AsyncIterator[Served]:
    """``artifact`` on an engine of this process, closed at the end."""
    logs.configure("text", "warning")
    plan, metrics = engine_plan(settings), Metrics()
    engine = create_engine(settings, plan, artifact, metrics, lambda reason: click.echo(f"error: {reason}", err=True))
    try:
        await engine.start()
        yield create_served(settings, artifact, engine, plan.max_pixels, metrics)
    finally:
        await engine.aclose()


async def infer_locally(served: Served, source: Source, classes: Sequence[int] = ()) -> ItemOutput:
    """The outputs for one image, without a deadline. Raises ServiceError."""
    result = await served.engine.infer(served.reference, source, time.monotonic() + _DEADLINE_S, classes)
    return result.output


def write_output(path: Path, data: bytes, *, beside: Mapping[str, bytes] | None = None) -> None:
    """Make or replace ``path``, and the files ``beside`` it: all or none. OperatorError if they cannot be written."""
    try:
        replace_files(path.parent, {path.name: data, **(beside or {})})
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}") from None
