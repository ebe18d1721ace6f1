"""``mobilenet-service embed``: writes the feature vectors of photos, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from service.bulk.results import Result, Vectors
from service.bulk.shards import NpyOutput
from service.bulk.sources import Listing
from service.cli.bulk import Job, job_options, tell
from service.cli.tally import Tally
from service.errors import OperatorError


@click.command("embed")
@click.argument("sources", metavar="SOURCE...", nargs=-1)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="NPY file to write, or folder of shards.")
@click.option("--format", "file_format", type=click.Choice(["parquet", "npy"]), help="Write a folder of such files.")
@click.option(
    "--normalize/--no-normalize", "unit_length", default=True, show_default=True, help="Scale vectors to unit length."
)
@click.option(
    "--skip-errors", is_flag=True, help="In one NPY file: skip bad photos; otherwise one means that nothing is written."
)
@job_options
def embed_command(
    sources: Sequence[str], out: Path, file_format: str | None, unit_length: bool, skip_errors: bool, **options: Any
) -> None:
    """Write the feature vectors of photos: files, folders, tar archives, Parquet tables with a column of images.

    To one NPY file, one row per photo, with the paths in a file of the same name with .json: {"paths": [...]}. With
    --format to a folder of shards, in which a bad photo has a row with an error.
    """
    if file_format is None and out.suffix != ".npy":
        raise OperatorError(f"--out {out}: the name must end in .npy, or --format must say what a folder is to hold")
    with Job(sources, options) as job:
        kind = Vectors(job.model.embedding_dim, unit_length)
        metadata = job.identity(unit_length=unit_length)
        if file_format is not None:
            job.write_folder(kind, out, f".{file_format}", metadata)
            return
        job.options.refuse_without_folder()
        try:
            with job.listing() as listing, NpyOutput(out, kind, metadata, errors=False) as output:
                _write_npy(job, kind, listing, output, skip_errors)
        except OSError as error:
            raise OperatorError(f"{out} cannot be written: {error.strerror}") from None
        click.echo(f"{click.format_filename(out)}: {output.rows} × {kind.dim} float32")


def _write_npy(job: Job, kind: Vectors, listing: Listing, output: NpyOutput, skip_errors: bool) -> None:
    def take(name: str, result: Result) -> None:
        tally.count(result)
        tell(name, result)
        output.add([name], [result])

    with Tally(listing.count) as tally:
        job.in_order(kind, listing, take)
    if output.rows < listing.count and not skip_errors:
        raise OperatorError("nothing was written because some files failed; --skip-errors skips them")
    if not output.rows:
        raise OperatorError("nothing was written because all files failed")
    output.publish()
