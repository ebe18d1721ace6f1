"""Batches of any size on networks of fixed size: buckets, fixed buffers, CUDA graphs, and halving on lack of memory.

    B images ─► run_or_halve ─► Lane.run ─► the smallest bucket ≥ B ─► Replay: pinned buffer ─► device buffer
                                                                       ─► launch ─► pinned buffers ─► copies

MobileNetV2 is some 150 small kernels, and at small batches a GPU waits for their launches. A CUDA graph launches
all at once, but only ever for the addresses and shapes that it was captured with: hence a graph per bucket, with
buffers of its own. The one thing that only a GPU can do is ``capture``; on the CPU a launch calls the module.

Lanes share weights and nothing else. Each has a stream, a memory pool of its graphs and pinned buffers, so that with
two of them one gathers and copies while the other computes. Within a lane one batch is under way at a time: its graphs
may use one pool, for what one of them leaves there no other reads, and answers keep memory of their own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.errors import OperatorError
from service.model.outputs import BatchOutputs
from service.model.runtime import Images, concatenate
from service.runtimes.torch.network import Answers, Classifier

logger = logging.getLogger(__name__)

Launch = Callable[[], None]

#: What ``map_rows`` makes.
Rows = NDArray[np.int32] | None

#: Algorithms that cuDNN times for each convolution before a graph is captured; 0: none, its heuristics choose.
SEARCH_LIMIT = 10


def bucket_sizes(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4, … below ``max_batch``, then ``max_batch`` itself."""
    sizes = [1]
    while sizes[-1] * 2 < max_batch:
        sizes.append(sizes[-1] * 2)
    return (*sizes, max_batch) if max_batch > 1 else (1,)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` is for want of memory.

    torch's allocator raises a class of its own. The driver (pinned memory, a graph's first launch) and the libraries
    (cuBLAS, cuDNN: ``…_ALLOC_FAILED``) only say so.
    """
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "ALLOC_FAILED" in text


def run_or_halve(run: Callable[[Images, Rows], BatchOutputs], images: Images, rows: Rows = None) -> BatchOutputs:
    """``run(images, rows)``, in halves where memory does not suffice; a single image that does not fit raises."""
    try:
        return run(images, rows)
    except RuntimeError as error:
        if len(images) == 1 or not out_of_memory(error):
            raise
    # Outside the handler: the exception keeps the failed call's tensors alive.
    half = (len(images) + 1) // 2
    first, second = (None, None) if rows is None else (rows[:half], rows[half:])
    return concatenate([run_or_halve(run, images[:half], first), run_or_halve(run, images[half:], second)])


class Lane:
    """One runner's share of the device: its stream and a ``Replay`` per bucket. Used by one thread at a time.

    Buckets are made from the largest down, so that on CUDA the small ones reuse the large one's memory. A bucket
    that does not fit is left out with a warning, and ``max_batch`` says what is left; where not even one image
    fits, OperatorError.
    """

    def __init__(self, module: Classifier, sizes: Sequence[int], side: int, device: torch.device) -> None:
        self.device = device
        self.stream: torch.cuda.Stream | None = None
        self._done: torch.cuda.Event | None = None
        pool = None
        if device.type == "cuda":
            self.stream = _stream(device)
            # Blocking: a thread that spun until the device is done would take a core from the decoders.
            self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch has no types here
            pool = torch.cuda.graph_pool_handle()
        self.replays: dict[int, Replay] = {}
        with torch.inference_mode(), self.on_stream():
            for size in sorted(sizes, reverse=True):
                try:
                    self.replays[size] = Replay(module, size, side, device, self.stream, pool)
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                    logger.warning("batches of %d do not fit into the memory of %s", size, device)
        if not self.replays:
            raise OperatorError(f"device={device} has not enough free memory for a single image")
        self.max_batch = max(self.replays)

    def run(self, images: Images, rows: Rows = None) -> BatchOutputs:
        """B images, each (S, S, 3) uint8, B ≤ ``max_batch``, padded up to the next bucket; the padding's answers are
        cut off."""
        batch = len(images)
        replay = self.replays[min(size for size in self.replays if size >= batch)]
        with torch.inference_mode(), self.on_stream():
            replay.start(images, rows)
            self.wait()
            return replay.answers(batch)

    def alive(self) -> bool:
        """Whether the device still answers. After a sticky CUDA error every later call fails as well."""
        if self.device.type == "cuda":
            try:
                torch.cuda.synchronize(self.device)
            except RuntimeError:
                return False
        return True

    def wait(self) -> None:
        """Until everything that was sent to the stream is done. The GIL is free meanwhile."""
        if self._done is not None:
            self._done.record(self.stream)
            self._done.synchronize()

    def on_stream(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)


class Replay:
    """Forward passes of exactly ``size`` images through fixed buffers; to be called inside its lane's stream."""

    def __init__(
        self,
        module: Classifier,
        size: int,
        side: int,
        device: torch.device,
        stream: torch.cuda.Stream | None = None,
        pool: Any = None,
    ) -> None:
        self.size = size
        pinned = stream is not None  # a copy from or to pageable memory would block the stream
        self._host_images = torch.zeros((size, side, side, 3), dtype=torch.uint8, pin_memory=pinned)
        self._rows = self._host_images.numpy()
        self._images = self._host_images.to(device, copy=True)
        self._host_classes = torch.full((size, module.maps), -1, dtype=torch.int32, pin_memory=pinned)
        self._classes = self._host_classes.to(device, copy=True)
        forward = partial(module, self._images, self._classes)
        self.launch, self._answers = _eager(forward) if stream is None else capture(forward, stream, pool)
        self._host_answers = Answers(
            *(torch.empty(answer.shape, dtype=answer.dtype, pin_memory=pinned) for answer in self._answers)
        )

    def start(self, images: Images, rows: Rows) -> None:
        """Send B ≤ ``size`` images through. Rows from B on hold what an earlier batch left there: no image's answer
        depends on its neighbours, so they need no clearing."""
        batch = len(images)
        gather(images, self._rows)
        self._images[:batch].copy_(self._host_images[:batch], non_blocking=True)
        self._host_classes.numpy()[:batch] = -1 if rows is None else rows
        self._classes[:batch].copy_(self._host_classes[:batch], non_blocking=True)
        self.launch()
        for host, answer in zip(self._host_answers, self._answers, strict=True):
            host[:batch].copy_(answer[:batch], non_blocking=True)

    def answers(self, batch: int) -> BatchOutputs:
        """Copies of the first ``batch`` answers, once the stream is done."""
        return BatchOutputs(*(host[:batch].numpy().copy() for host in self._host_answers))


def gather(images: Images, rows: NDArray[np.uint8]) -> None:
    """Copy B images into the first of ``rows`` (at least B, S, S, 3; C-contiguous).

    Through memoryviews, which keep the GIL for these few microseconds an image. numpy lets go of it for each, and must
    then wait behind an event loop that is busy: 64 times a batch.
    """
    target, size = rows.data.cast("B"), rows[0].nbytes
    for index, image in enumerate(images):
        target[index * size : (index + 1) * size] = image.reshape(-1).data


def _stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types here
    # The weights were sent on the default stream.
    stream.wait_stream(torch.cuda.current_stream(device))
    return stream


def _eager(forward: Callable[[], Answers]) -> tuple[Launch, Answers]:
    """What ``capture`` returns, for a device without graphs."""
    answers = forward()

    def launch() -> None:
        for target, source in zip(answers, forward(), strict=True):
            target.copy_(source)

    return launch, answers


def capture(forward: Callable[[], Answers], stream: torch.cuda.Stream, pool: Any) -> tuple[Launch, Answers]:
    """Record one forward pass as a CUDA graph that reads what ``forward`` reads; the answers lie at fixed addresses.

    TF32 is off: it keeps 10 bits of mantissa where fp32 promises 23.
    """
    searching = SEARCH_LIMIT > 0
    # To torch a limit of 0 means all algorithms.
    limit = max(1, SEARCH_LIMIT)
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=searching, benchmark_limit=limit, deterministic=False, allow_tf32=False
    )
    with flags:
        warm_up(forward, stream)
        graph, answers = record(forward, stream, pool)
    # The first launch, which sends the graph to the device, is not left to a request.
    graph.replay()
    stream.synchronize()
    return graph.replay, answers


def warm_up(forward: Callable[[], Answers], stream: torch.cuda.Stream) -> None:
    """Let cuDNN choose its algorithms and libraries allocate their workspaces: neither may happen while capturing."""
    for _ in range(3):
        forward()
    stream.synchronize()


def record(
    forward: Callable[[], Answers], stream: torch.cuda.Stream, pool: Any
) -> tuple[torch.cuda.CUDAGraph, Answers]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        answers = forward()
    return graph, answers
