"""The states of an engine: their names, what each refuses with, and the exit status of a process whose engine ended.

starting ─► ready ⇄ failing, late ─► closed
              └─► lost, failed or hung: final, the process ends
"""

from __future__ import annotations

from typing import Literal

from service.errors import DeadlineExceeded, Draining, NotReady, ServiceError

Fatal = Literal["lost", "failed", "hung"]
State = Literal["starting", "ready", "failing", "late", "closed", Fatal]
Phase = Literal["starting", "serving", "closed", Fatal]

#: A process's exit status by the final state of its engine; a supervisor should start another process. 70 is
#: sysexits.h's EX_SOFTWARE.
ENGINE_EXITS: dict[State, int] = {"lost": 70, "failed": 71, "hung": 72}

_WHY_NOT: dict[Phase, str] = {
    "starting": "the model is still loading",
    "lost": "the device was lost",
    "failed": "the model fails on every image",
    "hung": "the model does not answer any more",
}


def refusal(phase: Phase) -> ServiceError:
    """What an engine in ``phase`` answers every item."""
    if phase == "closed":
        return Draining("the service is shutting down")
    return NotReady(_WHY_NOT[phase])


def expired() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the image was inferred")
