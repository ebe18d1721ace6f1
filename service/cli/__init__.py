"""The command ``mobilenet-service``: the composition root. Errors are one line, never a traceback."""

from __future__ import annotations

import sys

import click

from service import __version__
from service.cli.explain import explain
from service.cli.local import classify, embed
from service.cli.models import models
from service.cli.serve import serve
from service.errors import OperatorError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mobilenet-service")
def cli() -> None:
    """MobileNetV2 over HTTP and on the command line: ImageNet classes, embeddings, class maps.

    \b
    mobilenet-service models pull                      get the default weights (once)
    mobilenet-service serve                            answer on http://127.0.0.1:8000
    mobilenet-service classify photo.jpg               without a server
    mobilenet-service embed photos/ --out vectors.npy  feature vectors of many photos
    mobilenet-service explain photo.jpg --out map.png  where in the photo the class was found

    Every option of 'serve' can also be set in the environment: --max-in-flight is MOBILENET_MAX_IN_FLIGHT.
    """


cli.add_command(serve)
cli.add_command(models)
cli.add_command(classify)
cli.add_command(embed)
cli.add_command(explain)


def main() -> None:
    """Console entry point: run the command, turn an operator's error into one line and exit status 1."""
    try:
        cli()
    except OperatorError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
