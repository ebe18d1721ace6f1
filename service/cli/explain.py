"""``mobilenet-service explain``: the class map of one photo, drawn over it, without a server."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from service import artifact, logs, overlay
from service.artifact import Artifact
from service.assembly import plan
from service.cli.local import PATIENCE_S, for_one_photo, read, replace, running_engine
from service.cli.options import setting_options, settings_from
from service.config import Settings
from service.errors import OperatorError, ServiceError
from service.postprocess import DEFAULT_TOP_K, ClassMap, Prediction, classify
from service.postprocess import explain as class_map
from service.preprocess import Limits, Preview, crop_box, inspect, prepare

_SETTINGS = ["model_store", "model", "version", "device", "runtime", "precision", "max_pixels"]


@click.command()
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
    help="How much the map covers the photo where it is strongest.",
)
@setting_options(_SETTINGS)
def explain(photo: Path, out: Path, index: int | None, opacity: float, **given: Any) -> None:
    """Draw where in a photo the network finds a class.

    Prints the strongest classes and writes the photo under the map of one of them, upright and reduced to at most 1,024
    pixels per side. What the network does not see, outside the centre crop, is dimmed.
    """
    settings = settings_from(**given)
    if out.suffix != ".png":
        raise OperatorError(f"--out {out}: a name that ends in .png is wanted")
    logs.configure("text", "warning")
    found = artifact.load(settings.model_store, settings.model, settings.version)
    if index is not None and index >= len(found.labels):
        raise OperatorError(f"--class {index}: the model's classes are 0 to {len(found.labels) - 1}")
    classes = () if index is None else (index,)
    try:
        data = read(photo)
        predictions, shown, png = asyncio.run(_explain(settings, found, data, classes, opacity))
    except ServiceError as error:
        raise OperatorError(f"{photo}: {error.detail}") from None
    replace(out, lambda file: file.write(png))
    for p in predictions:
        click.echo(f"  {p.probability:6.1%}  {p.index:4d}  {p.label}")
    click.echo(f"{out}: {overlay.caption(shown)}")


async def _explain(
    settings: Settings, found: Artifact, data: bytes, classes: tuple[int, ...], opacity: float
) -> tuple[list[Prediction], ClassMap, bytes]:
    """The strongest classes, the map to be shown, and its drawing as PNG."""
    chosen = plan(for_one_photo(settings))
    transform = found.manifest.preprocessing.transform()
    limits = Limits(max_pixels=chosen.capacity.max_pixels)
    header = inspect(data, limits)
    preview = Preview()
    decode = partial(prepare, data, header, transform, limits=limits, preview=preview)
    async with running_engine(settings, chosen, found) as engine:
        output = (await engine.infer(decode, time.monotonic() + PATIENCE_S, classes=classes)).output
    (shown,) = class_map(output, found.labels, classes, 1)
    png = overlay.draw(preview.photo, crop_box(preview.photo.size, transform), shown, opacity=opacity)
    return classify(output, found.labels, DEFAULT_TOP_K), shown, png
