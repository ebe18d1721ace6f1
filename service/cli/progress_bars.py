"""Progress bars on standard error, or plain lines if it is not a terminal."""

from __future__ import annotations

import sys
from typing import Any

import click


class ProgressBars:
    """A ``store.progress.Progress`` with one bar per step. As a context manager, it finishes the last bar."""

    def __init__(self) -> None:
        self._bar: Any = None  # click's ProgressBar is not exported as a type
        self._step: str | None = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._finish()

    def __call__(self, description: str, done: int, total: int | None) -> None:
        if description != self._step:
            self._finish()
            self._step = description
            # A pipe or a log file gets the step's name; a terminal gets a bar.
            if not sys.stderr.isatty() or total is None:
                click.echo(f"{description} …", err=True)
            else:
                self._bar = click.progressbar(length=total, label=f"{description:24}", file=sys.stderr)
                self._bar.__enter__()
        if self._bar is not None:
            self._bar.update(done - self._bar.pos)

    def _finish(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
