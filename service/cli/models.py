"""``mobilenet-service models``: manages the model store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import TypeAdapter, ValidationError

from service.cli.deploy import promote_command, rollback_command, status_command
from service.cli.options import setting_options, settings_from
from service.cli.progress_bars import ProgressBars
from service.errors import OperatorError
from service.runtimes.openvino.recipes import DEFAULT_RECIPE, RECIPES

if TYPE_CHECKING:  # each command imports what it needs when it runs
    from service.store.parity import ParityReport

_DEFAULT = "mobilenet_v2/1"
_ROWS = TypeAdapter(list[tuple[int, int, int, int]])


@click.group("models")
def models_command() -> None:
    """Pull, list, verify, add, quantise and compare model versions; change which are served."""


for _command in (promote_command, rollback_command, status_command):
    models_command.add_command(_command)


@models_command.command("pull")
@click.argument("reference", metavar="[NAME[/VERSION]]", default=_DEFAULT)
@setting_options(["model_store"])
def pull_command(reference: str, model_store: str | None) -> None:
    """Download a model's weights from the source in its manifest, check their hashes and convert them.

    Without a name: mobilenet_v2/1, the default. Does nothing if the weights are already there and intact.
    """
    from service.store.pull import pull

    store = settings_from(model_store=model_store).model_store
    with ProgressBars() as bars:
        artifact = pull(store, *_split(reference), bars)
    click.echo(f"{artifact.reference} is ready: sha256 {artifact.digest[:16]}…")


@models_command.command("list")
@setting_options(["model_store"])
def list_command(model_store: str | None) -> None:
    """Show every version in the store and whether it can be served."""
    from service.store import catalog

    entries = catalog.list_models(settings_from(model_store=model_store).model_store)
    if not entries:
        click.echo("The store is empty.")
        return
    width = max(len(entry.reference) for entry in entries)
    for entry in entries:
        about = entry.detail or (entry.manifest.description if entry.manifest else "")
        precisions = f"  [{', '.join(entry.derived)}]" if entry.derived else ""
        click.echo(f"{entry.reference:{width}}  {entry.state:10}  {about}{precisions}")


@models_command.command("verify")
@click.argument("reference", metavar="[NAME[/VERSION]]", required=False)
@setting_options(["model_store"])
def verify_command(reference: str | None, model_store: str | None) -> None:
    """Check every file of a version, or of all pulled ones, against its manifest.

    Exit status 1 if anything is wrong.
    """
    from service.store import catalog

    store = settings_from(model_store=model_store).model_store
    if reference:
        versions = [_split(reference)]
    else:
        versions = [(e.name, e.version) for e in catalog.list_models(store) if e.state != "not pulled"]
        if not versions:
            raise OperatorError("nothing has been pulled yet; run: mobilenet-service models pull")
    failed = False
    for name, version in versions:
        try:
            artifact = catalog.verify(store, name, version)
        except OperatorError as error:
            failed = True
            click.echo(f"error: {error}", err=True)
        else:
            click.echo(f"{artifact.reference}: intact, sha256 {artifact.digest}")
    sys.exit(1 if failed else 0)


@models_command.command("add")
@click.argument("checkpoint", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the model.")
@click.option("--version", default="1", show_default=True)
@click.option("--labels", type=click.Path(path_type=Path), help="Text file, one label per line.  [default: PATH's]")
@click.option("--like", metavar="NAME/VERSION", help="Copy preprocessing, architecture, head and labels from there.")
@click.option("--head", type=click.Choice(["softmax", "sigmoid"]), help="Sigmoid: several classes may be right.")
@click.option("--threshold", type=float, help="Probability from which on a sigmoid's class counts as found.")
@click.option("--width-mult", type=float, help="Default: by the shapes of the tensors.")
@click.option("--num-classes", type=int, help="Default: the number of labels.")
@click.option("--round-nearest", type=int, help="Default: 8.")
@click.option("--inverted-residual-setting", metavar="JSON", help="Rows [t, c, n, s]. Default: by the shapes.")
@click.option("--resize-size", type=int, help="Shorter side, in pixels. Default: as PATH says, else 256.")
@click.option("--crop-size", type=int, help="Default: as PATH says, else 224.")
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic"]), help="Default: as PATH says.")
@click.option("--mean", type=float, nargs=3, help="Mean of RGB pixels in [0, 1]. Default: as PATH or its library says.")
@click.option("--std", type=float, nargs=3, help="Standard deviation, likewise.")
@click.option("--description", default="")
@click.option("--licence", default="not stated", show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing version.")
@setting_options(["model_store"])
def add_command(checkpoint: Path, inverted_residual_setting: str | None, **options: Any) -> None:
    """Add your own MobileNetV2 of torchvision, timm, Transformers or Keras.

    PATH: .safetensors, .pth (with torch), .keras, .h5, or a folder of Transformers or timm.
    """
    from service.store.add import add

    store = settings_from(model_store=options.pop("model_store")).model_store
    options["inverted_residual_setting"] = _rows(inverted_residual_setting)
    artifact = add(store, checkpoint, **{key: value for key, value in options.items() if value is not None})
    click.echo(f"{artifact.reference} is ready. Serve it with:")
    click.echo(f"  mobilenet-service serve --model {artifact.manifest.name} --version {artifact.manifest.version}")


@models_command.command("quantize")
@click.argument("reference", metavar="[NAME[/VERSION]]", default=_DEFAULT)
@click.option(
    "--images",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Photos to calibrate on.  [default: 20 public ones]",
)
@click.option("--recipe", type=click.Choice(sorted(RECIPES)), default=DEFAULT_RECIPE, show_default=True)
@setting_options(["model_store"])
def quantize_command(reference: str, images: Path | None, recipe: str, model_store: str | None) -> None:
    """Make an int8 graph for the CPU beside the weights, calibrated on photos; serve it with --precision int8.

    \b
    close   loses least
    fast    also quantises the first three convolutions

    Photos like those to be served are best; a hundred are enough, and labels are not needed. Then compare accuracy and
    speed with 'models parity'.
    """
    from service.store.quantize import quantize

    store = settings_from(model_store=model_store).model_store
    with ProgressBars() as bars:
        artifact = quantize(store, *_split(reference), images=images, recipe=recipe, progress=bars)
    entry = artifact.manifest.derived["int8"]
    click.echo(f"{artifact.reference}: int8 is ready ({entry.recipe}; {entry.calibration}). Serve it with:")
    click.echo(
        f"  mobilenet-service serve --model {artifact.manifest.name} --version {artifact.manifest.version} "
        "--precision int8 --device cpu"
    )


@models_command.command("parity")
@click.argument("reference", metavar="[NAME[/VERSION]]", default=_DEFAULT)
@click.option("--images", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Photos to compare on.")
@click.option("--save", is_flag=True, help="Store the figures in the manifest; /models shows them.")
@setting_options(["model_store"])
def parity_command(reference: str, images: Path, save: bool, model_store: str | None) -> None:
    """Compare each precision and decode mode with exact fp32, on your photos and this CPU.

    Accuracy is printed if every photo has a class: a class index before the first '_' of its name
    (285_Egyptian_cat.jpg), or as the name of its subfolder (285/cat.jpg).
    """
    from service.store.locks import unserved
    from service.store.parity import compare, record

    store = settings_from(model_store=model_store).model_store
    name, version = _split(reference)
    if save:
        with unserved(store / name / version):  # before minutes of work
            pass
    with ProgressBars() as bars:
        report = compare(store, name, version, images, bars)
    for line in _parity_table(report):
        click.echo(line)
    if save:
        record(store, name, version, report)


def _parity_table(report: ParityReport) -> Iterator[str]:
    accuracy = f"{'top-1':>8}{'top-5':>8}" if report.labelled else ""
    yield f"{'precision':11}{'decode':8}{accuracy}{'agrees':>9}{'cosine, mean':>14}{'min':>9}{'ms':>8}"
    for row in report.rows:
        shares = f"{row.top1 / report.photos:8.1%}{row.top5 / report.photos:8.1%}" if report.labelled else ""
        cosines = f"{row.cosine_mean:14.4f}{row.cosine_min:9.4f}"
        agreement = f"{row.agreement / report.photos:9.1%}"
        yield f"{row.precision:11}{row.mode:8}{shares}{agreement}{cosines}{row.milliseconds:8.2f}"
    yield report.conditions
    yield from report.notes


def _split(reference: str) -> tuple[str, str]:
    name, _, version = reference.partition("/")
    return name, version or "1"


def _rows(text: str | None) -> list[tuple[int, int, int, int]] | None:
    if text is None:
        return None
    try:
        return _ROWS.validate_json(text, strict=True)
    except ValidationError:
        message = "--inverted-residual-setting: must be a JSON list of rows [t, c, n, s] of whole numbers"
        raise OperatorError(message) from None
