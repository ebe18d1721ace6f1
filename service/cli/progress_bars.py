"""Progress bars on standard error, or plain lines if it is not a terminal."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click


class ProgressBars(ExitStack):
    """A ``store.progress.Progress`` with one bar per step. As a context manager, it finishes the last bar."""

    _bar: Any = None  # click's ProgressBar is not exported as a type
    _step: str | None = None

    def __call__(self, description: str, done: int, total: int | None) -> None:
        if description != self._step:
            self.close()
            self._step, self._bar = description, None
            # A pipe or a log file gets the step's name; a terminal gets a bar.
            if not sys.stderr.isatty() or total is None:
                click.echo(f"{description} …", err=True)
            else:
                bar = click.progressbar(length=total, label=f"{description:24}", file=sys.stderr)
                self._bar = self.enter_context(bar)
        if self._bar is not None:
            self._bar.update(done - self._bar.pos)
