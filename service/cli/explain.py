"""``mobilenet-service explain``: draws the class map of one photo over it, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from service.cli.local_inference import local_engine
from service.cli.options import setting_options, settings_from
from service.config import Settings
from service.errors import OperatorError, ServiceError
from service.http import overlay
from service.image import Findings, crop_box, inspect
from service.model.artifact import Artifact
from service.model.artifact import load as load_artifact
from service.model.outputs import DEFAULT_TOP_K, ClassMap, Prediction, classify, explain
from service.serving.local import for_one_photo, infer_locally
from service.store.photos import read_photo
from service.store.write import replace_file

_SETTINGS = ["model_store", "model", "version", "device", "runtime", "precision", "max_pixels"]


@click.command("explain")
@click.argument("photo", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="PNG file to write.")
@click.option(
    "--class", "index", metavar="N", type=click.IntRange(min=0), help="Class to explain.  [default: the strongest]"
)
@click.option(
    "--opacity",
    metavar="X",
    type=click.FloatRange(0, 1),
    default=overlay.DEFAULT_OPACITY,
    show_default=True,
    help="Opacity of the map where it is strongest.",
)
@setting_options(_SETTINGS)
def explain_command(photo: Path, out: Path, index: int | None, opacity: float, **options: Any) -> None:
    """Draw where in a photo the network finds a class.

    Prints the strongest classes and writes the photo, upright and reduced to at most 1,024 pixels per side, with the
    map of one class drawn over it. Outside the centre crop, which the network does not see, the photo is dimmed.
    """
    settings = settings_from(**options)
    if out.suffix != ".png":
        raise OperatorError(f"--out {out}: the name must end in .png")
    artifact = load_artifact(settings.model_store, settings.model, settings.version)
    if index is not None and index >= len(artifact.labels):
        raise OperatorError(f"--class {index}: the model's classes are 0 to {len(artifact.labels) - 1}")
    classes = () if index is None else (index,)
    try:
        data = read_photo(photo)
        predictions, class_map, png = asyncio.run(_explain(settings, artifact, data, classes, opacity))
    except ServiceError as error:
        raise OperatorError(f"{photo}: {error.detail}") from None
    try:
        replace_file(out, png)
    except OSError as error:
        raise OperatorError(f"{out} cannot be written: {error.strerror}") from None
    for p in predictions:
        click.echo(f"  {p.probability:6.1%}  {p.index:4d}  {p.label}")
    click.echo(f"{click.format_filename(out)}: {overlay.caption(class_map)}")


async def _explain(
    settings: Settings, artifact: Artifact, data: bytes, classes: tuple[int, ...], opacity: float
) -> tuple[list[Prediction], ClassMap, bytes]:
    """The strongest classes, the map of one class, and its drawing."""
    findings = Findings(keep_photo=True)
    async with local_engine(for_one_photo(settings), artifact) as served:
        source = served.source(data, inspect(data, served.limits), findings)
        output = await infer_locally(served, source, classes)
    head = artifact.manifest.head
    (class_map,) = explain(output, artifact.labels, classes, 1, head)
    crop = crop_box(findings.photo.size, served.transform)
    png = overlay.draw(findings.photo, crop, class_map, opacity=opacity)
    return classify(output, artifact.labels, DEFAULT_TOP_K, head), class_map, png
