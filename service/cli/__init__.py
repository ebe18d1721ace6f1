"""The command ``mobilenet-service``. Errors are one line, never a traceback."""

# ruff: noqa: E402  # the first lines run before the imports that take time
from __future__ import annotations

import errno
import sys

from service.host import process

process.open_standard_streams()
#: Whatever command this is, SIGTERM ends it; a service that has not accepted anything yet has no more to do.
_SERVE = sys.argv[1:2] == ["serve"]
process.end_on_sigterm(status=0 if _SERVE else 128 + 15)
if _SERVE:
    process.ignore_harmless_signals()

from collections import UserDict
from importlib import import_module

import click

from service import __version__
from service.errors import OperatorError


class _Commands(UserDict[str, click.Command]):
    """Commands that stand only for their names, until one is looked up in the module of its name.

    So only what runs is imported: HTTP takes 0.2 s and 10 MB, which classify saves.
    """

    def __getitem__(self, name: str) -> click.Command:
        placeholder = super().__getitem__(name)
        command: click.Command = getattr(import_module(f"service.cli.{placeholder.name}"), f"{name}_command")
        return command


_COMMANDS = _Commands({name: click.Command(name) for name in ("serve", "models", "classify", "embed", "explain")})


@click.group(commands=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mobilenet-service")
def cli() -> None:
    """MobileNetV2 over HTTP and on the command line: ImageNet classes, embeddings, class maps.

    \b
    mobilenet-service models pull                      get the default weights (once)
    mobilenet-service serve                            answer on http://127.0.0.1:8000
    mobilenet-service classify photo.jpg               without a server
    mobilenet-service embed photos/ --out vectors.npy  feature vectors of a folder of photos
    mobilenet-service explain photo.jpg --out map.png  the class map over the photo

    Every option of 'serve' can also be set in the environment: --max-in-flight is MOBILENET_MAX_IN_FLIGHT.
    """


def main() -> None:
    """Console entry point: run the command; an OperatorError becomes one line and exit status 1, and so does a full
    disk under standard output."""
    try:
        cli()
    except OperatorError as error:
        process.say(f"error: {error}")
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        process.say(f"error: the output cannot be written: {error.strerror}")
        sys.exit(1)
