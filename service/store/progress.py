"""How long work tells whoever started it how far it is. The library never prints; the command line draws this."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def __call__(self, description: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` (None if unknown) of the step ``description``, in bytes, photos or rounds.

        A new ``description`` begins a new step.
        """


def silent(description: str, done: int, total: int | None) -> None:
    """The ``Progress`` of those who do not want any."""
