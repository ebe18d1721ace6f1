"""``mobilenet-service classify``: prints the most probable classes of photos, without a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from service.cli.local_inference import LOCAL_SETTINGS, files_of, infer_files
from service.cli.options import setting_options, settings_from
from service.errors import ServiceError
from service.model.outputs import DEFAULT_TOP_K, classify


@click.command("classify")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top-k", type=click.IntRange(min=1), default=DEFAULT_TOP_K, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@setting_options(LOCAL_SETTINGS)
def classify_command(paths: Sequence[Path], top_k: int, as_json: bool, **options: Any) -> None:
    """Print the most probable classes of photos (files, or folders of them)."""
    settings = settings_from(**options)
    files = files_of(paths)
    artifact, results = infer_files(settings, files)
    for path, result in zip(files, results, strict=True):
        if isinstance(result, ServiceError):
            click.echo(f"error: {path}: {result.detail}", err=True)
            continue
        predictions = classify(result, artifact.labels, top_k)
        if as_json:
            entries = [{"index": p.index, "label": p.label, "probability": float(p.probability)} for p in predictions]
            click.echo(json.dumps({"path": str(path), "predictions": entries}))  # as ``embed`` writes paths
        else:
            click.echo(click.format_filename(path))
            for p in predictions:
                click.echo(f"  {p.probability:6.1%}  {p.label}")
    sys.exit(1 if any(isinstance(result, ServiceError) for result in results) else 0)
