"""The CPU runtime: the network of ``graph``, compiled for one image, with one infer request per runner.

The int8 graph is read from the artifact, where ``models quantize`` has stored it.

A batch is run image by image. On a CPU that is faster than a batch dimension, takes less memory, and makes an image's
answer independent of its neighbours to the last bit; ADR 4 has the numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import ArtifactError, OperatorError
from service.model.artifact import Artifact
from service.model.outputs import MAPS_PER_ITEM, BatchOutputs
from service.model.runtime import Classes, Images, RuntimeOptions, check_images, map_rows
from service.runtimes.openvino.graph import OUTPUTS, build_model
from service.runtimes.openvino.imports import ov
from service.runtimes.pool import Pool

#: CPU flags in /proc/cpuinfo that mean bfloat16 arithmetic.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # int8: for the operations that are not quantised


class OpenVinoRuntime:
    """``Runtime`` on the CPU. Raises OperatorError for a precision that this CPU or OpenVINO does not support."""

    name = "openvino"
    device = "cpu"

    def __init__(self, artifact: Artifact, options: RuntimeOptions) -> None:
        core, precision, runners = ov.Core(), options.precision, options.runners
        if precision not in _HINTS:
            raise OperatorError(f"precision={precision} is not available on a CPU; choose fp32, bf16 or int8")
        if precision == "bf16" and not has_bf16(core):
            raise OperatorError("precision=bf16 needs a CPU with bfloat16 instructions, this one has none; use fp32")
        self.precision = precision
        self.max_batch = options.max_batch

        self._size = artifact.manifest.preprocessing.crop_size
        model = read_int8(core, artifact) if precision == "int8" else graph_from_weights(artifact, precision)
        # One graph per runner rather than one graph with a stream per runner: with a single stream OpenVINO computes on
        # the calling thread. With several it has threads of its own, which cost 15 % of the throughput of decode and
        # inference on two cores (ADR 4). The price is about 25 MB per runner.
        narrow = properties(precision, options.threads_per_runner)
        self._requests: Pool[_Request] | None = Pool(
            [_Request(core.compile_model(model, "CPU", narrow)) for _ in range(runners)]
        )
        # One more graph, which uses all cores, for a batch that runs alone.
        self._wide: _Request | None = None
        if runners > 1 and options.wide:
            wide = properties(precision, runners * options.threads_per_runner)
            self._wide = _Request(core.compile_model(model, "CPU", wide))
        self._wide_free = threading.Lock()
        self._side = artifact.network.feature_size(self._size)
        self._num_classes = artifact.network.num_classes
        self._embedding_dim = artifact.network.embedding_dim
        self._maps = min(MAPS_PER_ITEM, self._num_classes)

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        """B images, (S, S, 3) uint8 each → ``BatchOutputs``. ValueError for other input; RuntimeError from OpenVINO.

        With ``alone`` the answer is the same up to float rounding, on some CPUs to the last bit.
        """
        check_images(images, self._size, self.max_batch)
        rows = None if classes is None else map_rows(classes, len(images), self._maps, self._num_classes)
        requests = self._requests
        if requests is None:
            raise RuntimeError("the runtime is closed")
        outputs = self._allocate(len(images))
        with self._session(requests, alone) as request:
            for index, image in enumerate(images):
                request.infer(image, None if rows is None else rows[index], outputs, index)
        return outputs

    @contextmanager
    def _session(self, requests: Pool[_Request], alone: bool) -> Iterator[_Request]:
        if alone and self._wide is not None and self._wide_free.acquire(blocking=False):
            try:
                yield self._wide
            finally:
                self._wide_free.release()
        else:
            with requests.lease() as request:
                yield request

    def close(self) -> None:
        """Release memory and threads once running calls have ended. Idempotent."""
        self._requests = None
        self._wide = None

    def _allocate(self, batch: int) -> BatchOutputs:
        return BatchOutputs(
            logits=np.empty((batch, self._num_classes), np.float32),
            embeddings=np.empty((batch, self._embedding_dim), np.float32),
            top=np.empty((batch, self._maps), np.int64),
            maps=np.empty((batch, self._maps, self._side, self._side), np.float32),
        )


class _Request:
    """An infer request with its input buffers; used by one thread at a time."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        # Inputs are copied here: OpenVINO does not accept read-only arrays, and would keep the caller's array alive
        # until the next call. The copy takes about 10 µs of 3 ms.
        self._input = self._request.get_input_tensor(0).data[0]
        self._classes = self._request.get_input_tensor(1).data[0]
        self._classes[...] = -1
        # The first inference is slower because it allocates; no request should wait for that.
        self._request.infer()
        self._outputs = [self._request.get_tensor(name).data[0] for name in OUTPUTS]

    def infer(
        self, image: NDArray[np.uint8], classes: NDArray[np.int32] | None, outputs: BatchOutputs, index: int
    ) -> None:
        self._input[...] = image
        if classes is not None:
            self._classes[...] = classes
        self._request.infer()
        if classes is not None:
            self._classes[...] = -1  # most images request no classes
        targets: tuple[NDArray[Any], ...] = outputs
        for target, source in zip(targets, self._outputs, strict=True):
            target[index] = source


def graph_from_weights(artifact: Artifact, precision: str) -> ov.Model:
    """The graph of ``artifact``'s weights. Raises ArtifactError."""
    preprocessing = artifact.manifest.preprocessing
    return build_model(
        artifact.network,
        artifact.load_weights(),
        size=preprocessing.crop_size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        rotate_180=preprocessing.rotate_180,
        precision=precision,
    )


def read_int8(core: ov.Core, artifact: Artifact) -> ov.Model:
    """The quantised graph of ``artifact``, from verified bytes. Raises ArtifactError."""
    graph, constants = artifact.load_derived("int8")
    remedy = f"run: mobilenet-service models quantize {artifact.reference}"
    try:
        model = core.read_model(model=graph, weights=constants)
    except RuntimeError:
        # Its digest is right, so it was written by another version of OpenVINO.
        raise ArtifactError(f"{artifact.reference}: this OpenVINO cannot read the int8 graph; {remedy}") from None
    if [node.get_friendly_name() for node in model.get_parameters()] != ["images", "classes"]:
        raise ArtifactError(f"{artifact.reference}: another release of the service made the int8 graph; {remedy}")
    return model


def properties(precision: str, threads: int) -> dict[str, Any]:
    """Compile options: one inference at a time, on ``threads`` threads, at exactly this precision."""
    return {
        # By default OpenVINO silently computes in bfloat16 if the CPU supports it.
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Every process would pin its threads from the first core on: replicas on one machine would share cores, and
        # decode threads would wait behind a pinned thread while another core is idle.
        "ENABLE_CPU_PINNING": False,
    }


def has_bf16(core: ov.Core, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has bfloat16 instructions.

    OpenVINO lists BF16 for every AVX-512 CPU and emulates it slowly if the instructions are missing, so the CPU's flags
    decide if the system shows them.
    """
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return False
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return True
    for line in lines:
        name, _, values = line.partition(":")
        if name.strip().lower() in ("flags", "features"):  # x86, ARM
            return not _BF16_FLAGS.isdisjoint(values.split())
    return True
