"""``mobilenet-service classify``: the most probable classes of photos, without a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from service.bulk.results import Classes, Result
from service.cli.bulk import Job, job_options, tell
from service.errors import OperatorError
from service.model.outputs import DEFAULT_TOP_K


@click.command("classify")
@click.argument("sources", metavar="SOURCE...", nargs=-1)
@click.option("--top-k", type=click.IntRange(min=1), default=DEFAULT_TOP_K, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of Parquet files to write instead of lines.")
@job_options
def classify_command(sources: Sequence[str], top_k: int, as_json: bool, out: Path | None, **options: Any) -> None:
    """Print the most probable classes of photos: files, folders, tar archives, Parquet tables with a column of images.

    With --out they are written to a folder of shards, in which a bad photo has a row with an error.
    """
    with Job(sources, options) as job:
        kind = Classes(job.model.labels, top_k, job.model.head)
        if out is not None:
            if as_json:
                raise OperatorError("--json is for lines, without --out")
            job.write_folder(kind, out, ".parquet", {**job.identity(unit_length=False), "top_k": str(top_k)})
            return
        job.options.refuse_without_folder()
        failed = False

        def show(name: str, result: Result) -> None:
            nonlocal failed
            tell(name, result)
            if result.error is not None:
                failed = True
            elif as_json:
                entries = [
                    {name: value for name, value in asdict(p).items() if value is not None}
                    | {"probability": float(p.probability)}
                    for p in result.value
                ]
                click.echo(json.dumps({"path": name, "predictions": entries}))  # as ``embed`` writes paths
            else:
                click.echo(click.format_filename(name))
                for p in result.value:
                    click.echo(f"  {p.probability:6.1%}  {p.label}")

        with job.listing() as listing:
            job.in_order(kind, listing, show)
    sys.exit(failed)
