"""Puts the pieces together: settings become a plan, a plan and an artifact a runtime and an engine.

Shared by the server, its engine and worker processes, the local commands, the benchmarks and the end-to-end tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from service import runtimes
from service.artifact import Artifact
from service.capacity import Capacity, capacity
from service.config import Settings
from service.cores import available_cores
from service.engine import LocalEngine, Runtime
from service.ipc.arena import Layout
from service.metrics import Metrics

#: Largest batch that ``max_batch_size=auto`` may choose. A GPU's cost curve is flat well past a CPU's.
_AUTO_MAX_BATCH = {"cpu": 8, "cuda": 64}

#: Images of one worker that an engine may hold. A worker's decoders fill a few in the time of one batch; more would
#: only move the queue from encoded files to pixels.
_SLOTS = 32


class Plan(NamedTuple):
    """Settings without "auto": the device found, the cores and the memory shared out."""

    options: runtimes.RuntimeOptions
    decode_threads: int  # 0: the runners decode
    capacity: Capacity


def plan(settings: Settings, *, engines: int = 1) -> Plan:
    """Look at the machine once. Imports torch where an NVIDIA driver is installed. Raises OperatorError.

    On a CPU one runner a core (two networks side by side beat one on two cores), shared out among ``engines``
    processes; on a GPU two, of which one copies while the other computes. OpenVINO's runners decode their own images;
    torch gathers batches of what a pool has decoded.
    """
    wish = runtimes.RuntimeOptions(runtime=settings.runtime, device=settings.device)
    runtime, device = runtimes.runtime_and_device(wish)
    kind = "cpu" if device == "cpu" else "cuda"
    cores = available_cores() if kind == "cuda" else max(1, available_cores() // engines)
    automatic = cores if kind == "cpu" else 2
    runners = automatic if settings.runners == "auto" else settings.runners
    per_runner = max(1, cores // runners) if settings.threads_per_runner == "auto" else settings.threads_per_runner
    # OpenVINO runs a batch image by image: nothing is to be measured, and on a busy machine noise would be.
    most = 1 if runtime == "openvino" else _AUTO_MAX_BATCH[kind]
    options = runtimes.RuntimeOptions(
        runtime=runtime,
        device=device,
        precision=settings.precision,
        runners=runners,
        threads_per_runner=per_runner,
        max_batch=most if settings.max_batch_size == "auto" else settings.max_batch_size,
    )
    decode_threads = settings.decode_threads
    if decode_threads == "auto":
        decode_threads = 0 if runtime == "openvino" else cores
    return Plan(options, decode_threads, capacity(settings, decode_threads or runners))


def create_runtime(chosen: Plan, artifact: Artifact) -> Runtime:
    """Load the model onto its device; takes a fraction of a second on a CPU. Raises OperatorError."""
    return runtimes.create(artifact, chosen.options)


def create_engine(
    settings: Settings, chosen: Plan, artifact: Artifact, metrics: Metrics, on_fatal: Callable[[str], object]
) -> LocalEngine:
    """An engine that is yet to be started; the runtime is loaded by its own thread."""

    def load() -> Runtime:
        runtime = create_runtime(chosen, artifact)
        name, version = artifact.manifest.name, artifact.manifest.version
        metrics.model_info.labels(name, version, runtime.name, runtime.device, runtime.precision).set(1)
        return runtime

    return LocalEngine(
        load,
        image_size=artifact.manifest.preprocessing.crop_size,
        runners=chosen.options.runners,
        max_batch_size=settings.max_batch_size,
        max_queue_delay=settings.max_queue_delay_ms / 1e3,
        decode_threads=chosen.decode_threads,
        metrics=metrics,
        on_fatal=on_fatal,
    )


def wire_layout(artifact: Artifact) -> Layout:
    """What one image of this model and its outputs take between a worker and an engine."""
    size = artifact.manifest.preprocessing.crop_size
    network = artifact.network
    return Layout(size, network.num_classes, network.embedding_dim, network.feature_size(size), _SLOTS)
