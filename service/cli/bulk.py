"""What ``classify`` and ``embed`` have in common: sources, and folders of shards.

sources ─► Listing ─► results of a LocalEngine of this process, in order ─► shards in a folder, one file, or lines
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import click

from service.bulk import plan, run
from service.bulk.remote import Remote
from service.bulk.results import Infer, Kind, Result, infer_with
from service.bulk.shards import Folder
from service.bulk.sources import Listing, listed
from service.cli.local_inference import local_engine
from service.cli.options import Command, setting_options, settings_from
from service.cli.tally import Tally, TooManyErrors
from service.config import Settings
from service.errors import OperatorError
from service.model.artifact import load as load_artifact
from service.serving.build import engine_plan
from service.serving.local import for_one_photo
from service.store.photos import describe

#: The settings that have an effect without a server.
_SETTINGS = "model_store", "model", "version", "device", "runtime", "precision", "decode", "damaged", "max_pixels"

_MAX_ERRORS = "Stop with exit status 3 when more photos fail: a number, or a percentage such as 5%."

#: The exit status when there are more errors than ``--max-errors``.
TOO_MANY_ERRORS = 3


class FolderOptions(NamedTuple):
    """Options of commands that can write a folder."""

    url: tuple[str, ...]
    files_from: str | None
    shard_rows: int
    resume: bool
    worker: tuple[int, int] | None
    max_errors: str

    def refuse_without_folder(self) -> None:
        for name in ("resume", "worker", "max_errors"):
            if getattr(self, name):
                raise OperatorError(f"--{name.replace('_', '-')} is for folders of shards")


def job_options(command: Command) -> Command:
    url = "A running service that does the work, instead of this process; may be given several times."
    rows, each = click.IntRange(1), "Make every N-th shard from K on, K from 0 to N-1."
    for option in (
        setting_options(_SETTINGS),
        click.option("--max-errors", metavar="P", default="", callback=_max_errors, help=_MAX_ERRORS),
        click.option("--worker", metavar="K/N", callback=_worker, help=each),
        click.option("--resume", is_flag=True, help="Go on with the run that the folder holds."),
        click.option(
            "--shard-rows", metavar="N", type=rows, default=10_000, show_default=True, help="Photos per shard."
        ),
        click.option(
            "--files-from", metavar="FILE", help="More sources, in lines or ended by NULs; - is standard input."
        ),
        click.option("--url", metavar="URL", multiple=True, help=url),
    ):
        command = option(command)
    return command


class Local:
    """The model of ``settings`` in this process; ``Remote`` is the same elsewhere."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._artifact = load_artifact(settings.model_store, settings.model, settings.version)
        self.reference, self.labels = self._artifact.reference, self._artifact.labels
        self.head = self._artifact.manifest.head
        self.embedding_dim = self._artifact.network.embedding_dim
        #: What else the results depend on.
        self.facts = {"damaged": settings.damaged, "max_pixels": settings.max_pixels}

    def embedding_id(self, *, unit_length: bool) -> str:
        settings, runtime = self._settings, engine_plan(self._settings).options.runtime
        return self._artifact.embedding_id(settings.precision, runtime, settings.decode, unit_length=unit_length)

    @asynccontextmanager
    async def infer(self, kind: Kind, photos: int) -> AsyncIterator[Infer]:
        settings = for_one_photo(self._settings) if photos == 1 else self._settings
        async with local_engine(settings, self._artifact, wide=False) as served:
            yield infer_with(served, kind)


class Job(ExitStack):
    """What is done to which photos. ``options`` are those of ``job_options``.

    As a context manager, it lets SIGTERM and Ctrl-C end the process only after it has cleared away.
    """

    def __init__(self, sources: Sequence[str], options: dict[str, Any]) -> None:
        super().__init__()
        self.options = FolderOptions(**{name: options.pop(name) for name in FolderOptions._fields})
        if not sources and self.options.files_from is None:
            raise click.UsageError("name a SOURCE, or a list of them with --files-from")
        settings, urls = settings_from(**options), self.options.url
        self.model = Remote.find(urls, next(iter(settings.accepted_keys()), None)) if urls else Local(settings)
        self._sources = sources
        self.enter_context(_handled_by(_exit))

    def listing(self, where: Path | None = None) -> Listing:
        more = () if self.options.files_from is None else listed(self.options.files_from)
        return Listing(chain(self._sources, more), self.options.shard_rows, warn, where)

    def identity(self, *, unit_length: bool) -> dict[str, str]:
        """Metadata of all that is written."""
        return {"model": self.model.reference, "embedding_id": self.model.embedding_id(unit_length=unit_length)}

    def in_order(self, kind: Kind, listing: Listing, take: Callable[[str, Result], object]) -> None:
        """Call ``take`` with each photo's id and result."""
        entries = chain.from_iterable(map(listing.entries, range(listing.shards)))

        async def work() -> None:
            async with (
                self.model.infer(kind, listing.count) as infer,
                aclosing(run.results(entries, infer)) as results,
            ):
                async for entry, result in results:
                    take(entry.id, result)

        interruptible(work())

    def write_folder(self, kind: Kind, folder: Path, suffix: str, metadata: dict[str, str]) -> None:
        """Make the shards that do not exist yet; exits with 3 if there are too many errors."""
        try:
            shards = Folder(folder, suffix, kind, metadata)
            folder.mkdir(parents=True, exist_ok=True)
            with self.listing(folder) as listing:
                self._write(listing, shards, kind, metadata)
        except OSError as error:
            raise OperatorError(
                f"{folder} cannot be written: {error.strerror or error}; finished shards stay, and --resume goes on"
            ) from None
        except TooManyErrors as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(TOO_MANY_ERRORS)

    def _write(self, listing: Listing, folder: Folder, kind: Kind, metadata: dict[str, str]) -> None:
        options, worker = self.options, self.options.worker or (0, 1)
        wanted: dict[str, Any] = {"format": f"{folder.suffix[1:]}/1", "columns": ["path", *kind.columns], **metadata}
        wanted |= {**self.model.facts, "shard_rows": options.shard_rows}
        wanted |= {"photos": listing.count, "ids_sha256": listing.sha256}
        plan.begin(folder.path, wanted, resume=options.resume or options.worker is not None)
        todo = sum(map(listing.rows, run.shards_to_do(listing, folder, worker)))
        with Tally(todo, options.max_errors) as tally:

            async def work() -> None:
                async with self.model.infer(kind, todo) as infer:
                    await run.write_shards(listing, folder, worker, infer, tally.count)

            if todo:
                interruptible(work())
        there = sum(folder.shard(index).exists() for index in range(listing.shards))
        if there == listing.shards:
            plan.succeed(folder.path, sum(map(folder.counts, range(there)), Counter()))
        left_out = f"; left out: {describe(listing.left_out)}" * bool(listing.left_out)
        shards = f"{there} of {listing.shards} shards are there"
        click.echo(f"{click.format_filename(folder.path)}: {tally.summary()}; {shards}{left_out}", err=True)


def tell(name: str, result: Result) -> None:
    """A photo's error and warnings on standard error."""
    for warning in result.warnings:
        warn(f"{name}: {warning}")
    if result.error is not None:
        click.echo(f"error: {name}: {result.error.detail}", err=True)


def warn(sentence: str) -> None:
    click.echo(f"warning: {sentence}", err=True)


def interruptible(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work``; SIGTERM and Ctrl-C cancel it, so that it can clear away, and then exit."""
    received: list[int] = []

    async def main() -> None:
        task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()

        def stop(number: int, frame: object) -> None:
            received.append(number)
            loop.call_soon_threadsafe(task.cancel)

        with _handled_by(stop):
            try:
                await task
            except asyncio.CancelledError:
                if not received:
                    raise

    asyncio.run(main())
    if received:
        _exit(received[0])


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _exit(number: int, frame: object = None) -> NoReturn:
    sys.exit(128 + number)


def _worker(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    if match is None or int(match[1]) >= int(match[2]):
        raise click.BadParameter("must be K/N with K from 0 to N-1, such as 0/8")
    return int(match[1]), int(match[2])


def _max_errors(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if value and not re.fullmatch(r"\d+(\.\d+)?%|\d+", value):
        raise click.BadParameter("must be a number of photos or a percentage, such as 100 or 5%")
    return value
