"""The two protocols of the system and the values that cross them.

    HTTP ── EngineClient ──► engine (batcher, runners) ── Runtime ──► model on a device

``Runtime`` is implemented in ``service.runtimes``; ``EngineClient`` by ``LocalEngine`` here and by ``RemoteEngine`` in
``service.ipc``. One contract suite runs against every ``EngineClient``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from service.image import Prepared
from service.postprocess import BatchOutputs, ItemOutput
from service.runtimes.batch import Classes as Classes
from service.runtimes.batch import Images as Images


class Runtime(Protocol):
    """The model on a device."""

    @property
    def name(self) -> str:
        """``openvino`` or ``torch``."""

    @property
    def device(self) -> str:
        """``cpu``, ``cuda:0`` …"""

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16``, ``fp16`` or ``int8``."""

    @property
    def max_batch(self) -> int:
        """The largest B that ``run`` takes."""

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        """One forward pass over B images, each (S, S, 3) uint8 RGB, read where they lie and not after the return.

        ``classes``: of each image, whose maps are wanted, in place of those of its strongest classes.
        Thread-safe; blocks; the outputs belong to the caller.
        ``alone``: nothing else is queued or running, so that every core may work on this batch.
        Raises DeviceLost when no later call can succeed; anything else concerns this batch alone.
        """

    def close(self) -> None: ...


#: Decodes one image. Called once, on a thread of the engine's; may raise ServiceError for what the sender did.
Prepare = Callable[[], Prepared]


class InferResult(NamedTuple):
    """One image's outputs and where its time went."""

    output: ItemOutput
    prepared: Prepared
    decode_s: float
    queue_s: float  # from ``infer`` to the start of the forward pass, decoding excepted
    infer_s: float  # the forward pass of the whole batch
    batch_size: int


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What is serving, once it is known."""

    runtime: str
    device: str
    precision: str
    max_batch_size: int
    #: Seconds of one forward pass by batch size, measured at warm-up.
    batch_cost: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a request sent now would be inferred, and if not, why (a word for people)."""

    ok: bool
    reason: str
    info: RuntimeInfo | None = None


class EngineClient(Protocol):
    """What the HTTP layer knows of inference. Used from one event loop."""

    async def infer(
        self, prepare: Prepare, deadline: float, pixels: int | None = None, classes: Sequence[int] = ()
    ) -> InferResult:
        """Outputs for the (S, S, 3) uint8 image of ``prepare`` before ``deadline`` (time.monotonic() seconds).

        ``pixels``: how many ``prepare`` decodes, for a judgement of how long it may take; None: nobody judges.
        ``classes``: the first maps are theirs, at most MAPS_PER_ITEM of the model's classes.

        Raises what ``prepare`` raises, NotReady, Draining, DeadlineExceeded or InferenceFailed. Cancelling the call
        drops the image from the queue; one that is already running is computed and forgotten.
        """

    async def ready(self) -> Readiness:
        """Cheap while all is well; after a failed batch, tries the canary image before it answers."""

    async def aclose(self) -> None:
        """Refuse new images, finish those that were taken, release the device. Idempotent."""
