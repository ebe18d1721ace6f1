"""Photos to outputs without a server: what ``classify``, ``embed`` and ``explain`` share.

files ─► inspect, preprocess ─► a LocalEngine of this process ─► one output or error per file
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from service import logs
from service.config import Settings
from service.engine import Decode, Source
from service.errors import OperatorError, ServiceError
from service.host.cores import available_cores
from service.image import Pixels
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.model.artifact import load as load_artifact
from service.model.outputs import ItemOutput
from service.serving.build import create_engine, create_served, engine_plan
from service.serving.served import Served
from service.store.photos import image_files, read_photo
from service.store.write import replacement

#: The settings that matter without a server.
LOCAL_SETTINGS = ("model_store", "model", "version", "device", "runtime", "precision", "decode", "max_pixels")

#: A day: a local command has no deadline, and the engine asks for one.
_PATIENCE_S = 86_400.0

#: A bar for fewer files than this is gone before it is read.
_BAR_FROM = 20


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files as named; of folders, the images in them."""
    return [file for path in paths for file in (image_files(path) if path.is_dir() else [path])]


def infer_files(settings: Settings, files: Sequence[Path]) -> tuple[Artifact, list[ItemOutput | ServiceError]]:
    """The model that ``settings`` name, and its output for each of ``files``, or what is wrong with that file."""
    logs.configure("text", "warning")
    artifact = load_artifact(settings.model_store, settings.model, settings.version)
    with click.progressbar(
        length=len(files), label="photos", file=sys.stderr, hidden=len(files) < _BAR_FROM or not sys.stderr.isatty()
    ) as bar:
        return artifact, asyncio.run(_infer_all(settings, artifact, files, lambda: bar.update(1)))


async def _infer_all(
    settings: Settings, artifact: Artifact, files: Sequence[Path], advance: Callable[[], None]
) -> list[ItemOutput | ServiceError]:
    # Enough to keep decoders and runners busy; files beyond are not even read yet.
    room = asyncio.Semaphore(4 * available_cores() + 64)

    def pixels(served: Served, path: Path) -> Pixels:
        data = read_photo(path)
        return served.source(data, served.inspect(data)).call()

    async def infer(served: Served, path: Path) -> ItemOutput | ServiceError:
        async with room:
            try:
                return await infer_locally(served, Decode(partial(pixels, served, path)))
            except ServiceError as error:
                return error
            finally:
                advance()

    async with served_locally(for_one_photo(settings) if len(files) == 1 else settings, artifact) as served:
        return await asyncio.gather(*(infer(served, path) for path in files))


def for_one_photo(settings: Settings) -> Settings:
    """``settings`` without what serves only the photos after the first: a second runner, a search for batch sizes."""
    return settings.model_copy(update={"runners": 1, "max_batch_size": 1})


@asynccontextmanager
async def served_locally(settings: Settings, artifact: Artifact) -> AsyncIterator[Served]:
    """``artifact`` on an engine of this process, closed at the end."""
    planned = engine_plan(settings)
    engine = create_engine(
        settings, planned, artifact, Metrics(), lambda reason: click.echo(f"error: {reason}", err=True)
    )
    try:
        await engine.start()
        yield create_served(settings, artifact, engine, planned.max_pixels)
    finally:
        await engine.aclose()


async def infer_locally(served: Served, source: Source, classes: Sequence[int] = ()) -> ItemOutput:
    """The outputs for one image, whenever they come. Raises ServiceError."""
    result = await served.engine.infer(served.reference, source, time.monotonic() + _PATIENCE_S, classes)
    return result.output


def write_output(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have ``write`` fill a new file that then takes ``path``'s place. OperatorError if it cannot be written."""
    try:
        with replacement(path) as file:
            write(file)
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}") from None
