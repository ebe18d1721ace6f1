"""``mobilenet-service embed``: writes the feature vectors of photos to an NPY file, without a server."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from service.cli.local_inference import LOCAL_SETTINGS, files_of, infer_files, write_output
from service.cli.options import setting_options, settings_from
from service.errors import OperatorError, ServiceError
from service.model.outputs import normalize


@click.command("embed")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="NPY file to write.")
@click.option(
    "--normalize/--no-normalize", "unit_length", default=True, show_default=True, help="Scale vectors to unit length."
)
@click.option("--skip-errors", is_flag=True, help="Skip bad files; otherwise a bad file means that nothing is written.")
@setting_options(LOCAL_SETTINGS)
def embed_command(paths: Sequence[Path], out: Path, unit_length: bool, skip_errors: bool, **options: Any) -> None:
    """Write the feature vectors of photos (files, or folders of them) to an NPY file, one row per photo.

    The photos' paths are written, in the order of the rows, to a file of the same name with .json: {"paths": [...]}.
    """
    if out.suffix != ".npy":
        raise OperatorError(f"--out {out}: the name must end in .npy")
    settings = settings_from(**options)
    files = files_of(paths)
    _, results = infer_files(settings, files)
    embeddings, names = [], []
    for path, result in zip(files, results, strict=True):
        if isinstance(result, ServiceError):
            click.echo(f"error: {path}: {result.detail}", err=True)
        else:
            embeddings.append(result.embedding)
            names.append(str(path))
    if len(embeddings) < len(files) and not skip_errors:
        raise OperatorError("nothing was written because some files failed; --skip-errors skips them")
    if not embeddings:
        raise OperatorError("nothing was written because all files failed")
    matrix = np.stack([normalize(row) for row in embeddings] if unit_length else embeddings)
    npy = io.BytesIO()
    np.save(npy, matrix, allow_pickle=False)
    # In ASCII: a byte of a file name that is no UTF-8 is a lone surrogate (PEP 383), which JSON can only escape.
    side = json.dumps({"paths": names}, indent=1).encode()
    write_output(out, npy.getvalue(), beside={out.with_suffix(".json").name: side})
    click.echo(f"{click.format_filename(out)}: {matrix.shape[0]} × {matrix.shape[1]} float32")
