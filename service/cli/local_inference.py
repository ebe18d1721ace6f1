"""Inference without a server, shared by ``classify``, ``embed`` and ``explain``."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from service import logs
from service.config import Settings
from service.errors import OperatorError
from service.model.artifact import Artifact
from service.serving.intake import Served
from service.serving.local import served_locally
from service.store.write import replace_file

#: The settings that have an effect without a server.
LOCAL_SETTINGS = (
    "model_store",
    "model",
    "version",
    "device",
    "runtime",
    "precision",
    "decode",
    "damaged",
    "max_pixels",
)


def local_engine(settings: Settings, artifact: Artifact, *, wide: bool = True) -> AbstractAsyncContextManager[Served]:
    """``served_locally``, with a terminal's log."""
    logs.configure("text", "warning")
    return served_locally(settings, artifact, lambda reason: click.echo(f"error: {reason}", err=True), wide=wide)


def write_output(path: Path, data: bytes) -> None:
    """Make or replace ``path``. OperatorError if it cannot be written."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}") from None
