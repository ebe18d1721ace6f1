"""``mobilenet-service serve``: one process that does everything, or a supervisor of workers and engines."""

from __future__ import annotations

import os
import socket
import sys
import time
from functools import partial
from typing import Any

import click

from service import __version__, logs
from service.cli.options import setting_options, settings_from
from service.config import Settings
from service.http.server.listener import base_url, listen
from service.model.artifact import Artifact
from service.model.artifact import load as load_artifact


@click.command("serve")
@setting_options()
def serve_command(**options: Any) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C.

    One process by default. With --workers N, N processes read, decode and answer, and one more for each of --devices
    computes: for GPUs, and for machines with many cores.
    """
    settings = settings_from(**options)
    logs.configure(settings.log_format, settings.log_level)
    # Refused here, before anything listens, if manifest or labels are not in order.
    artifact = load_artifact(settings.model_store, settings.model, settings.version)
    _ = artifact.digest
    listener = listen(settings.host, settings.port)
    greet = partial(_greet, settings, artifact, listener, time.monotonic())
    # Imported where it is needed: a supervisor speaks no HTTP.
    if settings.workers:
        from service.processes.supervisor import supervise

        status = supervise(settings, artifact.digest, listener, on_ready=greet)
    else:
        from service.cli import single

        status = single.run(settings, artifact, listener, on_ready=greet)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a thread that does not come back, of a decode pool say, would keep the interpreter


def _greet(settings: Settings, artifact: Artifact, listener: socket.socket, began: float, shape: str) -> None:
    base = base_url(listener)
    browser = ""
    if settings.page:
        browser = f"  {base}/          drop photos there, in a browser\n"
    elif settings.docs:
        browser = f"  {base}/docs      try it in a browser\n"
    click.echo(
        f"\nmobilenet-service {__version__}: {artifact.reference} ({shape}), "
        f"ready in {time.monotonic() - began:.2f} s\n\n"
        f"{browser}"
        f"  {base}/classify  POST an image, get its classes\n"
        f"  {base}/explain   POST an image, get where in it they are\n"
        f"  {base}/embed     POST an image, get its feature vector\n"
        f"  {base}/metrics   Prometheus\n\n"
        f"  curl --data-binary @photo.jpg {base}/classify\n"
    )
    sys.stdout.flush()
