"""The states of an engine: their names, the errors of their refusals, and the exit statuses of final states.

starting ─► ready ⇄ failing, late ─► closed
              └─► lost, failed or hung: final, the process ends
"""

from __future__ import annotations

from typing import Literal

from service.errors import DeadlineExceeded, Draining, NotReady, ServiceError

Fatal = Literal["lost", "failed", "hung"]
State = Literal["starting", "ready", "failing", "late", "closed", Fatal]
Phase = Literal["starting", "serving", "closed", Fatal]

#: Exit status of a process by the final state of its engine. 70 is EX_SOFTWARE in sysexits.h.
ENGINE_EXITS: dict[State, int] = {"lost": 70, "failed": 71, "hung": 72}

_REFUSALS: dict[Phase, str] = {
    "starting": "the model is still loading",
    "lost": "the device was lost",
    "failed": "the model fails on every image",
    "hung": "the model no longer answers",
}


def refusal(phase: Phase) -> ServiceError:
    """The error with which an engine in ``phase`` answers every item."""
    if phase == "closed":
        return Draining("the service is shutting down")
    return NotReady(_REFUSALS[phase])


def expired() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the image was inferred")
