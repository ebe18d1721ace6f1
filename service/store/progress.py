"""How long operations report their progress. The store never prints; the command line shows bars."""

from __future__ import annotations

from collections.abc import Callable

#: Takes the description of a step, how much is done, and the total (None if unknown), in bytes, photos or rounds. A new
#: description starts a new step.
Progress = Callable[[str, int, int | None], None]


def silent(description: str, done: int, total: int | None) -> None:
    """A ``Progress`` that ignores all reports."""
