"""``Progress``: how long operations report their progress. The store never prints; the command line shows bars."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def __call__(self, description: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` (None if unknown) of the step ``description``, in bytes, photos or rounds.

        A new ``description`` starts a new step.
        """


def silent(description: str, done: int, total: int | None) -> None:
    """A ``Progress`` that ignores all reports."""
