"""The engine as its callers see it: the ``EngineClient`` protocol, its types, states and refusals.

    serving ── source ──► EngineClient.infer ──► InferResult

    starting ─► ready ⇄ failing, late ─► closed
                  └─► lost, failed or hung: final, the process ends

Implemented by ``LocalEngine`` (threads of this process) and by ``RemoteEngine`` (engines in other processes). One
contract suite runs against both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from service.errors import DeadlineExceeded, Draining, NotReady, ServiceError
from service.image import Pixels
from service.model.outputs import ItemOutput


class Decode(NamedTuple):
    """A function that makes an item's pixels; the engine calls it on one of its threads."""

    #: Called at most once. May raise ServiceError for a fault of the sender.
    call: Callable[[], Pixels]
    #: Number of pixels to decode, from which the watchdog derives a time limit; None: no limit.
    pixel_count: int | None = None


#: Where an item's pixels come from.
Source = Pixels | Decode

#: ``low``: taken only while no item of normal priority waits.
Priority = Literal["normal", "low"]


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


class InferResult(NamedTuple):
    """One image's outputs and durations."""

    output: ItemOutput
    decode_s: float
    queue_s: float  # from ``infer`` to the forward pass, without decoding
    infer_s: float  # the forward pass of the whole batch
    batch_size: int


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What the model runs on."""

    name: str
    device: str
    precision: str
    max_batch_size: int
    #: Seconds of one forward pass by batch size, measured at warm-up.
    batch_cost_seconds: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a request sent now would be inferred; ``reason`` is one word for people."""

    ok: bool
    reason: str
    info: RuntimeInfo | None = None


class EngineClient(Protocol):
    """Used from one event loop."""

    @property
    def info(self) -> RuntimeInfo | None:
        """What the model runs on; None until that is known."""

    async def infer(
        self, model: str, source: Source, deadline: float, classes: Sequence[int] = (), priority: Priority = "normal"
    ) -> InferResult:
        """The outputs of ``model`` (``name/version``) for one image, before ``deadline`` (time.monotonic() seconds).

        ``classes``: at most MAPS_PER_ITEM classes, of which the first maps are.

        Raises what ``source`` raises, UnknownModel, NotReady, Draining, DeadlineExceeded or InferenceFailed.
        Cancelling the call drops the item from the queue; if it is already running, its outputs are discarded.
        """

    async def ready(self) -> Readiness:
        """Cheap unless the last batch failed: then it infers the probe image before it answers."""

    async def aclose(self) -> None:
        """Refuse new items, finish accepted ones, release the device. Idempotent."""


def refusal(phase: Phase) -> ServiceError:
    """The error with which an engine in ``phase`` answers every item."""
    if phase == "closed":
        return Draining("the service is shutting down")
    return NotReady(_REFUSALS[phase])


def expired() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the image was inferred")
