"""Creates the parts of the service: from settings a plan; from plan and artifact an engine; what it serves; the intake.

Used by the server, its engine and worker processes, the local commands, benchmarks and end-to-end tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from service import runtimes
from service.config import Settings
from service.engine.client import EngineClient
from service.engine.local import LocalEngine
from service.host.cores import available_cores
from service.host.memory import available_memory
from service.image import Limits
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.model.runtime import Runtime, RuntimeOptions
from service.serving.admission import Admission
from service.serving.intake import Intake, Served
from service.serving.memory_limits import IDLE_BYTES, pixels_per_image, units_in_flight

#: Largest batch that ``max_batch_size=auto`` may choose. A GPU gains from much larger batches than a CPU.
_AUTO_MAX_BATCH = {"cpu": 8, "cuda": 64}


class Plan(NamedTuple):
    """Settings with every "auto" resolved for this machine."""

    options: RuntimeOptions
    decode_threads: int  # 0: the runners decode
    max_in_flight: int  # units of ``Admission``
    max_pixels: int  # of one image


def engine_plan(settings: Settings, *, engines: int = 1) -> Plan:
    """Inspect the machine. Imports torch if an NVIDIA driver is installed. Raises OperatorError.

    On a CPU there is one runner per core (two networks side by side are faster than one on two cores), and ``engines``
    processes share the cores. On a GPU there are two: one copies while the other computes. OpenVINO's runners decode
    their own images; torch runs batches of images that a pool has decoded.
    """
    runtime, device = runtimes.runtime_and_device(settings.runtime, settings.device)
    on_cpu = device == "cpu"
    cores = max(1, available_cores() // engines) if on_cpu else available_cores()
    runners = (cores if on_cpu else 2) if settings.runners == "auto" else settings.runners
    per_runner = max(1, cores // runners) if settings.threads_per_runner == "auto" else settings.threads_per_runner
    # OpenVINO runs a batch image by image, so there is no cost curve to measure; on a busy machine it would be noise.
    auto_batch = 1 if runtime == "openvino" else _AUTO_MAX_BATCH["cpu" if on_cpu else "cuda"]
    options = RuntimeOptions(
        runtime=runtime,
        device=device,
        precision=settings.precision,
        runners=runners,
        threads_per_runner=per_runner,
        max_batch=auto_batch if settings.max_batch_size == "auto" else settings.max_batch_size,
    )
    decode_threads = settings.decode_threads
    if decode_threads == "auto":
        decode_threads = 0 if runtime == "openvino" else cores
    memory = available_memory()
    return Plan(options, decode_threads, *_limits(settings, memory, decode_threads or runners))


def worker_plan(settings: Settings) -> tuple[int, int, int]:
    """Decode threads, ``max_in_flight`` and ``max_pixels`` of a worker, which gets its share of cores and memory.

    At least two decode threads: connections are spread evenly over workers, but requests are not.
    """
    automatic = max(2, -(-available_cores() // settings.workers))
    threads = automatic if settings.decode_threads == "auto" else settings.decode_threads
    memory = max(0, available_memory() - len(settings.engine_devices) * IDLE_BYTES) // settings.workers
    return threads, *_limits(settings, memory, threads)


def _limits(settings: Settings, memory: int, decoders: int) -> tuple[int, int]:
    """``max_in_flight`` and ``max_pixels`` of a process that has ``memory`` bytes and decodes ``decoders`` images."""
    return (
        units_in_flight(memory) if settings.max_in_flight == "auto" else settings.max_in_flight,
        pixels_per_image(memory, decoders) if settings.max_pixels == "auto" else settings.max_pixels,
    )


def create_runtime(options: RuntimeOptions, artifact: Artifact) -> Runtime:
    """Load the model onto its device. Raises OperatorError."""
    return runtimes.create(artifact, options)


def runtime_loader(plan: Plan, artifact: Artifact, metrics: Metrics) -> Callable[[], Runtime]:
    """What an engine calls on its own thread to load ``artifact``."""

    def load() -> Runtime:
        runtime = create_runtime(plan.options, artifact)
        metrics.model(artifact.reference).info(runtime.name, runtime.device, runtime.precision).set(1)
        return runtime

    return load


def create_engine(
    settings: Settings, plan: Plan, artifact: Artifact, metrics: Metrics, on_fatal: Callable[[str], object]
) -> LocalEngine:
    """An engine that has not been started; it loads the runtime on its own thread."""
    return LocalEngine(
        artifact.reference,
        runtime_loader(plan, artifact, metrics),
        image_size=artifact.manifest.preprocessing.crop_size,
        runners=plan.options.runners,
        max_batch_size=settings.max_batch_size,
        max_queue_delay=settings.max_queue_delay_ms / 1e3,
        decode_threads=plan.decode_threads,
        metrics=metrics,
        on_fatal=on_fatal,
    )


def create_served(
    settings: Settings, artifact: Artifact, engine: EngineClient, max_pixels: int, metrics: Metrics
) -> Served:
    """``artifact`` as ``engine`` serves it; images of more than ``max_pixels`` are refused."""
    return Served(
        artifact,
        artifact.reference,
        engine,
        metrics.model(artifact.reference),
        artifact.manifest.preprocessing.transform(),
        settings.decode,
        Limits(max_pixels=max_pixels),
        settings.damaged,
        settings.precision,
    )


def create_intake(
    settings: Settings, max_in_flight: int, metrics: Metrics, on_release: Callable[[], object] | None = None
) -> Intake:
    """The intake of a process; ``on_release`` is called after each admitted request."""
    return Intake(
        Admission(max_in_flight, share=settings.max_client_share, on_release=on_release),
        metrics,
        max_body_bytes=settings.max_body_bytes,
        timeout_s=settings.request_timeout_ms / 1e3,
    )
