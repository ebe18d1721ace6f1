"""``mobilenet-service serve``: runs one process that does everything, or a supervisor of workers and engines."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from service import __version__, logs
from service.cli.options import setting_options, settings_from
from service.config import Settings
from service.host.process import connection_limit, flush_standard_streams
from service.http.server.listener import base_url, listen, listening_unix
from service.model.artifact import Artifact
from service.model.artifact import load as load_artifact
from service.serving.versions import desired_aliases


@click.command("serve")
@setting_options()
def serve_command(**options: Any) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C.

    One process by default. With --workers N, N processes read, decode and answer, and one process per device in
    --devices computes: for GPUs, and for machines with many cores.
    """
    settings = settings_from(**options)
    logs.configure(settings.log_format, settings.log_level)
    # Before anything listens: raises OperatorError for a faulty manifest, labels or weights that were never pulled.
    desired = desired_aliases(settings)
    artifacts = [load_artifact(settings.model_store, name, aliases.stable) for name, aliases in desired.items()]
    _ = [artifact.digest for artifact in artifacts]
    connection_limit(settings.max_connections, workers=settings.workers)
    with listening_unix(settings.uds) if settings.uds else listen(settings.host, settings.port) as listener:
        on_ready = partial(_print_welcome, settings, artifacts, listener, time.monotonic())
        # Imported on demand: a supervisor does not need HTTP.
        if settings.workers:
            from service.processes.supervisor import supervise

            status = supervise(settings, listener, on_ready=on_ready)
        else:
            from service.cli.one_process import run_single

            status = run_single(settings, artifacts, desired, listener, on_ready=on_ready)
    flush_standard_streams()
    os._exit(status)  # without waiting for threads that may hang, as in a decode pool


def _print_welcome(
    settings: Settings, artifacts: Sequence[Artifact], listener: socket.socket, started: float, processes: str
) -> None:
    base = base_url(listener)
    unix = f"--unix-socket {settings.uds} " if settings.uds else ""
    browser, models = "", ", ".join(artifact.reference for artifact in artifacts)
    if unix:
        browser = f"  It listens on {settings.uds}:\n\n"
    elif settings.page:
        browser = f"  {base}/          drop photos there in a browser\n"
    elif settings.docs:
        browser = f"  {base}/docs      try it in a browser\n"
    welcome = (
        f"\nmobilenet-service {__version__}: {models} ({processes}), "
        f"ready in {time.monotonic() - started:.2f} s\n\n"
        f"{browser}"
        f"  {base}/classify  POST an image, get its classes\n"
        f"  {base}/explain   POST an image, get its class maps\n"
        f"  {base}/embed     POST an image, get its feature vector\n"
        f"  {base}/metrics   Prometheus\n\n"
        f"  curl {unix}--data-binary @photo.jpg {base}/classify\n"
    )
    with contextlib.suppress(OSError):  # a terminal that is gone or a full disk must not end a service
        click.echo(welcome)
    flush_standard_streams()
