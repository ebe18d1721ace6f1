"""Inference without a server, shared by ``classify``, ``embed`` and ``explain``."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import click

from service import logs
from service.config import Settings
from service.model.artifact import Artifact
from service.serving.intake import Served
from service.serving.local import served_locally


def local_engine(settings: Settings, artifact: Artifact, *, wide: bool = True) -> AbstractAsyncContextManager[Served]:
    """``served_locally``, with a terminal's log."""
    logs.configure("text", "warning")
    return served_locally(settings, artifact, lambda reason: click.echo(f"error: {reason}", err=True), wide=wide)
