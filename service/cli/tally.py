"""Counts what becomes of many photos and tells of it on standard error: a bar on a terminal, elsewhere lines."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack

import click

from service.bulk.results import Result
from service.bulk.shards import outcome
from service.store.photos import describe

#: Seconds between two lines.
_EVERY_S = 10.0

#: A percentage of fewer photos says little.
_MIN_PHOTOS = 100

#: Fewer photos than this take too little time for a progress bar.
_MIN_PHOTOS_FOR_BAR = 20


class TooManyErrors(Exception):
    """More than ``--max-errors``."""


class Tally(ExitStack):
    """``most``: errors beyond which ``count`` raises TooManyErrors, as a number or as a percentage."""

    def __init__(self, total: int, most: str = "") -> None:
        super().__init__()
        self.errors: Counter[str] = Counter()
        self._total = total
        self._done = 0
        self._most = most
        self._began = self._told = time.monotonic()
        terminal, few = sys.stderr.isatty(), total < _MIN_PHOTOS_FOR_BAR
        self._silent = terminal or few
        bar = click.progressbar(length=total, label="photos", file=sys.stderr, hidden=few or not terminal)
        self._bar = self.enter_context(bar)

    def count(self, result: Result) -> None:
        self._done += 1
        self._bar.update(1)
        if result.error is not None:
            self.errors[outcome(result)] += 1
            if self._too_many():
                raise TooManyErrors(f"more than {self._most} errors: {self.summary()}")
        if not self._silent and time.monotonic() - self._told >= _EVERY_S:
            self._told = time.monotonic()
            left = (self._total - self._done) * (self._told - self._began) / self._done
            click.echo(f"{self.summary()}, {left / 60:.0f} minutes left", err=True)

    def summary(self) -> str:
        rate = self._done / max(time.monotonic() - self._began, 1e-3)
        errors = f"errors: {describe(self.errors)}" if self.errors else "no errors"
        return f"{self._done:,} of {self._total:,} photos, {rate:.1f}/s, {errors}"

    def _too_many(self) -> bool:
        found, most = self.errors.total(), float(self._most.removesuffix("%") or "inf")
        if self._most.endswith("%"):
            return self._done >= _MIN_PHOTOS and found * 100 > most * self._done
        return found > most
