"""Runs batches of any size on networks of fixed batch size: buckets, fixed buffers, CUDA graphs.

    B images ─► run_or_halve ─► Lane.run ─► the smallest bucket ≥ B ─► Replay: pinned buffer ─► device buffer
                                                                       ─► launch ─► pinned buffers ─► copies

MobileNetV2 consists of about 150 small kernels, and with small batches a GPU waits for their launches. A CUDA graph
launches them all at once, but only for the addresses and shapes with which it was captured: hence one graph per bucket,
with its own buffers. Only ``capture`` needs a GPU; on the CPU a launch calls the module.

Lanes share only the weights. Each has a stream, a memory pool for its graphs and pinned buffers, so that one of two
lanes can gather and copy while the other computes. A lane runs one batch at a time, so its graphs can share a pool: no
graph reads memory of another, and outputs have their own buffers.
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
from torch.cuda import Stream

from service.errors import OperatorError
from service.model.outputs import BatchOutputs
from service.model.runtime import Images, concatenate
from service.runtimes.torch.network import Classifier, DeviceOutputs

logger = logging.getLogger(__name__)

Forward = Callable[[], DeviceOutputs]
Launch = Callable[[], None]

#: The result of ``map_rows``.
Rows = NDArray[np.int32] | None

#: Algorithms that cuDNN times for each convolution before a graph is captured; 0: none, its heuristics choose. On an
#: H200 with torch 2.11 a search of 10 took 20.6 of the 32.6 s until a process was ready, and gained nothing: 25,597
#: images/s at 64 in fp16, against 26,445 without (2026-11-28, ``python -m benchmarks.gpu``).
SEARCH_LIMIT = 0


def bucket_sizes(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4, … below ``max_batch``, then ``max_batch`` itself."""
    return (*(2**exponent for exponent in range((max_batch - 1).bit_length())), max_batch)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` means that memory is exhausted.

    torch's allocator has a class for it. For errors of the driver (pinned memory, a graph's first launch) and of
    libraries (cuBLAS, cuDNN: ``…_ALLOC_FAILED``) only the text tells.
    """
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "ALLOC_FAILED" in text


def run_or_halve(run: Callable[[Images, Rows], BatchOutputs], images: Images, rows: Rows = None) -> BatchOutputs:
    """``run(images, rows)``, in halves if memory is exhausted; raises if a single image does not fit."""
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
    """One runner's stream and its ``Replay`` per bucket. Used by one thread at a time.

    Buckets are created from the largest down, so that on CUDA the small ones reuse the large one's memory. A bucket
    that does not fit is skipped with a warning and lowers ``max_batch``. OperatorError if not even one image fits.
    """

    def __init__(self, module: Classifier, sizes: Sequence[int], side: int, device: torch.device) -> None:
        self.device = device
        self.stream: Stream | None = None
        self._done: torch.cuda.Event | None = None
        pool = None
        if device.type == "cuda":
            self.stream = Stream(device)  # type: ignore[no-untyped-call]  # torch has no types here
            self.stream.wait_stream(torch.cuda.current_stream(device))  # on which the weights were copied
            # Blocking: a thread that spins until the device has finished would take a core from the decoders.
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
        """The outputs of B ≤ ``max_batch`` images, each (S, S, 3) uint8, run in the next larger bucket."""
        batch = len(images)
        replay = self.replays[min(size for size in self.replays if size >= batch)]
        with torch.inference_mode(), self.on_stream():
            replay.start(images, rows)
            self.wait()
            return replay.outputs(batch)

    def alive(self) -> bool:
        """Whether the device still answers. After a sticky CUDA error every later call fails as well."""
        if self.device.type == "cuda":
            try:
                torch.cuda.synchronize(self.device)
            except RuntimeError:
                return False
        return True

    def wait(self) -> None:
        """Wait until the stream has finished, without the GIL."""
        if self._done is not None:
            self._done.record(self.stream)
            self._done.synchronize()

    def on_stream(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)


class Replay:
    """Forward passes of exactly ``size`` images through fixed buffers; to be called inside its lane's stream."""

    def __init__(
        self, module: Classifier, size: int, side: int, device: torch.device, stream: Stream | None, pool: Any
    ) -> None:
        pinned = stream is not None  # a copy from or to pageable memory would block the stream
        self._host_images = torch.zeros((size, side, side, 3), dtype=torch.uint8, pin_memory=pinned)
        self._rows = self._host_images.numpy()
        self._images = self._host_images.to(device, copy=True)
        self._host_classes = torch.full((size, module.maps), -1, dtype=torch.int32, pin_memory=pinned)
        self._classes = self._host_classes.to(device, copy=True)
        forward = partial(module, self._images, self._classes)
        self.launch, self._outputs = _eager(forward) if stream is None else capture(forward, stream, pool)
        self._host_outputs = DeviceOutputs(
            *(torch.empty(output.shape, dtype=output.dtype, pin_memory=pinned) for output in self._outputs)
        )

    def start(self, images: Images, rows: Rows) -> None:
        """Send B ≤ ``size`` images through. Rows from B on keep images of an earlier batch, to no effect."""
        batch = len(images)
        gather(images, self._rows)
        self._images[:batch].copy_(self._host_images[:batch], non_blocking=True)
        self._host_classes.numpy()[:batch] = -1 if rows is None else rows
        self._classes[:batch].copy_(self._host_classes[:batch], non_blocking=True)
        self.launch()
        for host, output in zip(self._host_outputs, self._outputs, strict=True):
            host[:batch].copy_(output[:batch], non_blocking=True)

    def outputs(self, batch: int) -> BatchOutputs:
        """Copies of the outputs of the first ``batch`` images; call after the stream has finished."""
        return BatchOutputs(*(host[:batch].numpy().copy() for host in self._host_outputs))


def gather(images: Images, rows: NDArray[np.uint8]) -> None:
    """Copy B images into the first of ``rows`` (at least B, S, S, 3; C-contiguous).

    Through memoryviews, which hold the GIL during these few microseconds per image on purpose: numpy releases it after
    every image and then has to queue behind the event loop to get it back.
    """
    target, size = rows.data.cast("B"), rows[0].nbytes
    for index, image in enumerate(images):
        target[index * size : (index + 1) * size] = image.reshape(-1).data


def _eager(forward: Forward) -> tuple[Launch, DeviceOutputs]:
    """The equivalent of ``capture`` on a device without CUDA graphs."""
    outputs = forward()

    def launch() -> None:
        for target, source in zip(outputs, forward(), strict=True):
            target.copy_(source)

    return launch, outputs


def capture(forward: Forward, stream: Stream, pool: Any) -> tuple[Launch, DeviceOutputs]:
    """Record one forward pass as a CUDA graph that reads the inputs of ``forward``; the outputs have fixed addresses.

    TF32 is off: it has 10 bits of mantissa where fp32 has 23. The first launch, which uploads the graph to the device,
    is done here so that no request waits for it.
    """
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=SEARCH_LIMIT > 0, benchmark_limit=SEARCH_LIMIT, deterministic=False, allow_tf32=False
    ):
        warm_up(forward, stream)
        graph, outputs = record(forward, stream, pool)
    graph.replay()
    stream.synchronize()
    return graph.replay, outputs


def warm_up(forward: Forward, stream: Stream) -> None:
    """Let cuDNN choose its algorithms and libraries allocate their workspaces: neither may happen in a capture."""
    for _ in range(3):
        forward()
    stream.synchronize()


def record(forward: Forward, stream: Stream, pool: Any) -> tuple[torch.cuda.CUDAGraph, DeviceOutputs]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        outputs = forward()
    return graph, outputs
