"""Photos to outputs without a server: what ``classify``, ``embed`` and ``explain`` share.

files ─► inspect, prepare ─► a LocalEngine of this process ─► one output or error per file
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
from service.artifact import Artifact
from service.artifact import load as load_artifact
from service.assembly import Plan, create_engine
from service.assembly import plan as make_plan
from service.config import Settings
from service.cores import available_cores
from service.engine import LocalEngine
from service.errors import OperatorError, ServiceError
from service.image import Limits, Prepared, inspect, prepare
from service.metrics import Metrics
from service.postprocess import ItemOutput
from service.store.photos import image_files, read_photo
from service.store.write import replacement

#: The settings that matter without a server.
LOCAL_SETTINGS = ("model_store", "model", "version", "device", "runtime", "precision", "decode", "max_pixels")

#: A day: a local command has no deadline, and the engine asks for one.
PATIENCE_S = 86_400.0

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
    plan = make_plan(for_one_photo(settings) if len(files) == 1 else settings)
    transform = artifact.manifest.preprocessing.transform()
    limits = Limits(max_pixels=plan.capacity.max_pixels)
    # Enough to keep decoders and runners busy; files beyond are not even read yet.
    room = asyncio.Semaphore(4 * available_cores() + 64)

    def decode(path: Path) -> Prepared:
        data = read_photo(path)
        return prepare(data, inspect(data, limits), transform, settings.decode, limits)

    async def infer(path: Path) -> ItemOutput | ServiceError:
        async with room:
            try:
                return (await engine.infer(partial(decode, path), time.monotonic() + PATIENCE_S)).output
            except ServiceError as error:
                return error
            finally:
                advance()

    async with running_engine(settings, plan, artifact) as engine:
        return await asyncio.gather(*(infer(path) for path in files))


def for_one_photo(settings: Settings) -> Settings:
    """``settings`` without what serves only the photos after the first: a second runner, a search for batch sizes."""
    return settings.model_copy(update={"runners": 1, "max_batch_size": 1})


@asynccontextmanager
async def running_engine(settings: Settings, plan: Plan, artifact: Artifact) -> AsyncIterator[LocalEngine]:
    engine = create_engine(settings, plan, artifact, Metrics(), lambda reason: click.echo(f"error: {reason}", err=True))
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()


def write_output(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have ``write`` fill a new file that then takes ``path``'s place. OperatorError if it cannot be written."""
    try:
        with replacement(path) as file:
            write(file)
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}") from None
