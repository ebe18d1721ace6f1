"""Puts the pieces together: settings and an artifact become a runtime, an engine, an app.

Shared by the server, the local commands, the benchmark and the end-to-end tests.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple

from service import runtimes
from service.artifact import Artifact
from service.config import Settings
from service.cores import available_cores
from service.engine import LocalEngine, Runtime
from service.metrics import Metrics

#: Largest batch that ``max_batch_size=auto`` may choose. A GPU's cost curve is flat well past a CPU's.
_AUTO_MAX_BATCH = {"cpu": 8, "cuda": 64}


class Threads(NamedTuple):
    """How the cores at hand are shared out."""

    runners: int
    per_runner: int


def threads(settings: Settings, device: str, cores: int) -> Threads:
    """One runner a core on a CPU (two networks side by side beat one on two cores), one runner on a GPU."""
    automatic = cores if device == "cpu" else 1
    runners = automatic if settings.runners == "auto" else settings.runners
    per_runner = max(1, cores // runners) if settings.threads_per_runner == "auto" else settings.threads_per_runner
    return Threads(runners, per_runner)


def create_runtime(settings: Settings, artifact: Artifact) -> Runtime:
    """Load the model onto its device; takes a fraction of a second on a CPU. Raises OperatorError."""
    return runtimes.create(artifact, _options(settings))


def create_engine(
    settings: Settings, artifact: Artifact, metrics: Metrics, on_lost: Callable[[str], object]
) -> LocalEngine:
    """An engine that is yet to be started; the runtime is loaded by its own thread."""

    def load() -> Runtime:
        runtime = create_runtime(settings, artifact)
        manifest = artifact.manifest
        metrics.model_info.labels(manifest.name, manifest.version, runtime.name, runtime.device, runtime.precision).set(
            1
        )
        return runtime

    return LocalEngine(
        load,
        image_size=artifact.manifest.preprocessing.crop_size,
        runners=_options(settings).runners,
        max_batch_size=settings.max_batch_size,
        max_queue_delay=settings.max_queue_delay_ms / 1e3,
        metrics=metrics,
        on_lost=on_lost,
    )


def create_decoders(settings: Settings, engine: LocalEngine) -> Executor:
    """The runners' own threads where those are the cores (OpenVINO); else a pool, one thread a core."""
    if settings.decode_threads == "auto" and _options(settings).runtime == "openvino":
        return engine.decoders
    count = available_cores() if settings.decode_threads == "auto" else settings.decode_threads
    return ThreadPoolExecutor(count, thread_name_prefix="decode")


def _options(settings: Settings) -> runtimes.RuntimeOptions:
    wish = runtimes.RuntimeOptions(runtime=settings.runtime, device=settings.device)
    runtime, device = runtimes.resolve(wish)
    kind = "cpu" if device == "cpu" else "cuda"
    shared = threads(settings, kind, available_cores())
    return runtimes.RuntimeOptions(
        runtime=runtime,
        device=device,
        precision=settings.precision,
        runners=shared.runners,
        threads_per_runner=shared.per_runner,
        max_batch=_AUTO_MAX_BATCH[kind] if settings.max_batch_size == "auto" else settings.max_batch_size,
    )
