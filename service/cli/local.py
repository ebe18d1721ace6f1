"""``mobilenet-service classify`` and ``embed``: the same data path as the server's, without HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson

from service import logs
from service.cli.options import setting_options, settings_from
from service.config import Settings
from service.engine import LocalEngine
from service.errors import OperatorError, ServiceError
from service.host.cores import available_cores
from service.image import SUFFIXES, Limits, Prepared, inspect, prepare
from service.metrics import Metrics
from service.model import artifact
from service.model.artifact import Artifact
from service.model.outputs import DEFAULT_TOP_K, ItemOutput, normalize
from service.model.outputs import classify as top_classes
from service.serving.build import Plan, create_engine, plan

_SETTINGS = ["model_store", "model", "version", "device", "runtime", "precision", "decode", "max_pixels"]

#: A bar for fewer files than this is gone before it is read.
_BAR_FROM = 20

#: Nobody waits for a local command's single image; a day is never.
PATIENCE_S = 86_400.0

Result = ItemOutput | ServiceError


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top-k", type=click.IntRange(min=1), default=DEFAULT_TOP_K, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@setting_options(_SETTINGS)
def classify(paths: Sequence[Path], top_k: int, as_json: bool, **given: Any) -> None:
    """Print the most probable classes of photos (files, or folders of them)."""
    settings = settings_from(**given)
    files = _files(paths)
    found, results = _infer(settings, files)
    for path, result in zip(files, results, strict=True):
        if isinstance(result, ServiceError):
            click.echo(f"error: {path}: {result.detail}", err=True)
            continue
        predictions = top_classes(result, found.labels, top_k)
        if as_json:
            entries = [{"index": p.index, "label": p.label, "probability": float(p.probability)} for p in predictions]
            click.echo(orjson.dumps({"path": str(path), "predictions": entries}).decode())
        else:
            click.echo(str(path))
            for p in predictions:
                click.echo(f"  {p.probability:6.1%}  {p.label}")
    sys.exit(1 if any(isinstance(result, ServiceError) for result in results) else 0)


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="NPY file to write.")
@click.option("--normalize/--no-normalize", "unit_length", default=True, show_default=True, help="Unit length.")
@click.option("--skip-errors", is_flag=True, help="Leave bad files out instead of writing nothing.")
@setting_options(_SETTINGS)
def embed(paths: Sequence[Path], out: Path, unit_length: bool, skip_errors: bool, **given: Any) -> None:
    """Write the feature vectors of photos (files, or folders of them) to an NPY file, a row a photo.

    The rows' paths go to a text file of the same name with .txt, a line a row.
    """
    if out.suffix != ".npy":
        raise OperatorError(f"--out {out}: a name that ends in .npy is wanted")
    settings = settings_from(**given)
    files = _files(paths)
    _, results = _infer(settings, files)
    rows: list[np.ndarray[Any, np.dtype[np.float32]]] = []
    names: list[str] = []
    for path, result in zip(files, results, strict=True):
        if isinstance(result, ServiceError):
            click.echo(f"error: {path}: {result.detail}", err=True)
        else:
            rows.append(normalize(result.embedding) if unit_length else result.embedding)
            names.append(str(path))
    if len(rows) < len(files) and not skip_errors:
        raise OperatorError("nothing was written, because files failed; --skip-errors leaves them out")
    if not rows:
        raise OperatorError("nothing was written, because every file failed")
    matrix = np.stack(rows)
    replace(out, lambda file: np.save(file, matrix, allow_pickle=False))
    replace(out.with_suffix(".txt"), lambda file: file.write("".join(f"{name}\n" for name in names).encode()))
    click.echo(f"{out}: {matrix.shape[0]} × {matrix.shape[1]} float32")


def read(path: Path) -> bytes:
    """A photo's bytes; a file that cannot be read is an error of that photo alone."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServiceError(error.strerror or "cannot be read") from None


def replace(path: Path, write: Callable[[Any], object]) -> None:
    """Write beside ``path`` and rename, so that a reader never sees half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            write(file)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OperatorError(f"{path} cannot be written: {error.strerror}") from None


def _files(paths: Sequence[Path]) -> list[Path]:
    """Files as named; of folders, the images in them by name."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
        else:
            files.append(path)
    if not files:
        raise OperatorError("there are no images in " + ", ".join(str(path) for path in paths))
    return files


def _infer(settings: Settings, files: Sequence[Path]) -> tuple[Artifact, list[Result]]:
    logs.configure("text", "warning")
    found = artifact.load(settings.model_store, settings.model, settings.version)
    with click.progressbar(
        length=len(files), label="photos", file=sys.stderr, hidden=len(files) < _BAR_FROM or not sys.stderr.isatty()
    ) as bar:
        return found, asyncio.run(_infer_all(settings, found, files, lambda: bar.update(1)))


async def _infer_all(
    settings: Settings, found: Artifact, files: Sequence[Path], advance: Callable[[], None]
) -> list[Result]:
    chosen = plan(for_one_photo(settings) if len(files) == 1 else settings)
    transform = found.manifest.preprocessing.transform()
    limits = Limits(max_pixels=chosen.capacity.max_pixels)
    # Enough to keep decoders and runners busy; files beyond are not even read yet.
    turn = asyncio.Semaphore(4 * available_cores() + 64)

    def decode(path: Path) -> Prepared:
        data = read(path)
        return prepare(data, inspect(data, limits), transform, settings.decode, limits)

    async def one(path: Path) -> Result:
        async with turn:
            try:
                return (await engine.infer(partial(decode, path), time.monotonic() + PATIENCE_S)).output
            except ServiceError as error:
                return error
            finally:
                advance()

    async with running_engine(settings, chosen, found) as engine:
        return await asyncio.gather(*(one(path) for path in files))


def for_one_photo(settings: Settings) -> Settings:
    """A second runner, and the search for the best batch, are for those that come after it."""
    return settings.model_copy(update={"runners": 1, "max_batch_size": 1})


@asynccontextmanager
async def running_engine(settings: Settings, chosen: Plan, found: Artifact) -> AsyncIterator[LocalEngine]:
    engine = create_engine(settings, chosen, found, Metrics(), lambda reason: click.echo(f"error: {reason}", err=True))
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()
