"""The engine as its callers see it: the ``EngineClient`` protocol and the values that cross it.

    serving ── source ──► EngineClient.infer ──► InferResult

Implemented by ``LocalEngine`` (threads of this process) and by ``RemoteEngine`` (engines in other processes). One
contract suite runs against both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from service.image import Pixels
from service.model.outputs import ItemOutput


class Decode(NamedTuple):
    """The call that makes an item's pixels, for a thread of the engine's."""

    #: Called at most once. May raise ServiceError for what the sender did wrong.
    call: Callable[[], Pixels]
    #: How many pixels are decoded, for a judgement of how long that may take; None: nobody judges.
    pixel_count: int | None = None


#: Where an item's pixels come from.
Source = Pixels | Decode

#: ``low``: taken only while no item of normal priority waits.
Priority = Literal["normal", "low"]


class InferResult(NamedTuple):
    """One image's outputs and where its time went."""

    output: ItemOutput
    decode_s: float
    queue_s: float  # from ``infer`` to the start of the forward pass, without decoding
    infer_s: float  # the forward pass of the whole batch
    batch_size: int


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What the model runs on."""

    runtime: str
    device: str
    precision: str
    max_batch_size: int
    #: Seconds of one forward pass by batch size, measured at warm-up.
    batch_cost: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a request sent now would be inferred, and if not, why (one word, for people)."""

    ok: bool
    reason: str
    info: RuntimeInfo | None = None


class EngineClient(Protocol):
    """Used from one event loop."""

    async def infer(
        self,
        model: str,
        source: Source,
        deadline: float,
        classes: Sequence[int] = (),
        priority: Priority = "normal",
    ) -> InferResult:
        """The outputs of ``model`` (``name/version``) for one image, before ``deadline`` (time.monotonic() seconds).

        ``classes``: the first maps are of these classes, at most MAPS_PER_ITEM of the model's.

        Raises what ``source`` raises, UnknownModel, NotReady, Draining, DeadlineExceeded or InferenceFailed.
        Cancelling the call drops the item from the queue; one that is already running is computed and forgotten.
        """

    async def ready(self) -> Readiness:
        """Cheap while all is well; after a failed batch, infers the probe image before it answers."""

    async def aclose(self) -> None:
        """Refuse new items, finish those that were taken, release the device. Idempotent."""
