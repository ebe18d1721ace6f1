"""Prometheus metrics: base units, bounded labels, one registry per instance.

Fed by the HTTP layer (requests, stages, images), the engine (batches, queue) and the supervisor (processes); read by
``/metrics``. Of one process, or, after ``share``, of all that share a directory: the library then keeps every value in
a file there, which any of them reads (ADR 17).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

# Twice the samples of counters and histograms, and not to be had of many processes.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Stages of a request, in order; also the names in the Server-Timing header.
STAGES = ("read", "decode", "queue", "infer", "encode")

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

#: Labels of what belongs to one model.
_MODEL = ("model", "version")

#: How the library names its files.
_FILE = re.compile(r"(counter|histogram|gauge_live(sum|max))_[\w.-]+\.db")

#: The directory and this process's name in it. The library's switch is as global.
_shared: tuple[Path, str] | None = None


def share(directory: str | Path, process: str) -> None:
    """Let every ``Metrics`` made from now on be seen by all processes that share ``directory``.

    No two processes have the name ``process`` at a time. The next one of that name goes on with its counters, so that
    they never fall and no files accumulate.
    """
    global _shared
    _shared = (Path(directory), process)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]  # it has no types


def forget(directory: str | Path, process: str) -> None:
    """Let the gauges of a process that has ended vanish; its counters stay."""
    mark_process_dead(process, str(directory))  # type: ignore[no-untyped-call]  # it has no types


class Metrics:
    """Every metric of the service, as attributes."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        PlatformCollector(registry=registry)
        #: Gauges, or children of gauges: two engines that watch one gauge have a child each.
        self._watched: dict[Gauge, Callable[[], float]] = {}
        self._models: dict[str, ModelMetrics] = {}
        self._directory, self._process_figures = None, None
        if _shared is None:
            ProcessCollector(registry=registry)
        else:
            self._directory, process = _shared
            self._process_figures = _ProcessFigures(process, registry)
        self.requests = Counter(
            "mobilenet_requests_total", "Requests answered.", ["endpoint", "code"], registry=registry
        )
        self.request_duration = Histogram(
            "mobilenet_request_duration_seconds",
            "From the request's head to the last byte of the answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_duration = Histogram(
            "mobilenet_stage_duration_seconds",
            "Time in one stage: read (body), decode, queue (for a decode thread and for a runner), infer, encode.",
            (*_MODEL, "stage"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "mobilenet_batch_size", "Images in one forward pass.", _MODEL, buckets=_BATCHES, registry=registry
        )
        self.queue_depth = Gauge(
            "mobilenet_queue_depth",
            "Images waiting for a runner, decoded or not.",
            _MODEL,
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.in_flight = Gauge(
            "mobilenet_in_flight",
            "Images admitted and not yet answered, large ones weighing more.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.in_flight_limit = Gauge(
            "mobilenet_in_flight_limit",
            "Where mobilenet_in_flight ends and refusals begin.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.rejected = Counter(
            "mobilenet_rejected_total", "Requests or images refused, by reason.", ["reason"], registry=registry
        )
        self.images = Counter(
            "mobilenet_images_total",
            "Images received, by format and outcome.",
            (*_MODEL, "format", "outcome"),
            registry=registry,
        )
        self.cancelled = Counter(
            "mobilenet_cancelled_total", "Requests whose client went away before the answer.", registry=registry
        )
        self.batch_cost = Gauge(
            "mobilenet_batch_cost_seconds",
            "Time of one forward pass by batch size, measured at warm-up.",
            (*_MODEL, "batch_size"),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.model_info = Gauge(
            "mobilenet_model_info",
            "A model that is being served; always 1.",
            (*_MODEL, "runtime", "device", "precision"),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.ready = Gauge(
            "mobilenet_ready", "1 if the service can infer.", multiprocess_mode="livemax", registry=registry
        )
        #: Both are the supervisor's; where there is none they have no samples.
        self.processes = Gauge(
            "mobilenet_processes",
            "Places for processes, by what is in them.",
            ["kind", "state"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.process_exits = Counter(
            "mobilenet_process_exits_total",
            "Processes that ended and were not told to, by reason.",
            ["process", "reason"],
            registry=registry,
        )

    def model(self, reference: str) -> ModelMetrics:
        """The metrics of one model, ``name/version``; the same object for the same model."""
        if reference not in self._models:
            self._models[reference] = ModelMetrics(self, *reference.split("/"))
        return self._models[reference]

    def watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Let ``sample`` set ``gauge``, or a child of it, to what ``read`` returns; nothing is paid in between."""
        self._watched[gauge] = read

    def sample(self) -> None:
        """Set what is read rather than counted. Where metrics are shared, others see it as of the last call."""
        for gauge, read in list(self._watched.items()):
            gauge.set(read())
        if self._process_figures is not None:
            self._process_figures.sample()

    def render(self) -> bytes:
        self.sample()
        if self._directory is None:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        PlatformCollector(registry=everyone)
        everyone.register(_Everyone(self._directory))
        return generate_latest(everyone)


class ModelMetrics:
    """What is counted for each model. Children are looked up once: five look-ups cost more than the observations."""

    def __init__(self, metrics: Metrics, name: str, version: str) -> None:
        self._metrics = metrics
        self._labels = (name, version)
        self.batch_size = metrics.batch_size.labels(name, version)
        self.queue_depth = metrics.queue_depth.labels(name, version)
        self.stages = {stage: metrics.stage_duration.labels(name, version, stage) for stage in STAGES}

    def batch_cost(self, size: int) -> Gauge:
        return self._metrics.batch_cost.labels(*self._labels, str(size))

    def image(self, image_format: str, outcome: str) -> Counter:
        return self._metrics.images.labels(*self._labels, image_format, outcome)

    def info(self, runtime: str, device: str, precision: str) -> Gauge:
        return self._metrics.model_info.labels(*self._labels, runtime, device, precision)


class _ProcessFigures:
    """What the library says of a process, ``process_resident_memory_bytes`` and the like, with the process's name."""

    def __init__(self, process: str, registry: CollectorRegistry) -> None:
        self._process = process
        self._source = ProcessCollector(registry=None)
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._counted: dict[str, float] = {}  # what this process has added to its predecessors'
        for family in self._source.collect():
            name, said = family.name, family.documentation
            if family.type == "counter":
                self._counters[name] = Counter(name, said, ["process"], registry=registry)
            else:
                self._gauges[name] = Gauge(name, said, ["process"], multiprocess_mode="livemax", registry=registry)

    def sample(self) -> None:
        for family in self._source.collect():
            name, value = family.name, family.samples[0].value
            if name in self._gauges:
                self._gauges[name].labels(self._process).set(value)
            elif name in self._counters:
                self._counters[name].labels(self._process).inc(max(0.0, value - self._counted.get(name, 0.0)))
                self._counted[name] = value


class _Everyone(Collector):
    """All processes' metrics, from the files in ``directory``, whatever else is there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in sorted(self._directory.iterdir()) if _FILE.fullmatch(file.name) and _size(file)]
        try:
            return _merged(files)
        except Exception:
            logger.exception("a file of metrics cannot be read and is left out")
            return _merged([file for file in files if _is_readable(file)])


def _merged(files: list[str]) -> list[Metric]:
    return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]  # it has no types


def _size(file: Path) -> int:
    """0 for a file that its process has only just opened, at which the library would fail, or that is gone."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _is_readable(file: str) -> bool:
    try:
        _merged([file])
    except Exception:
        return False
    return True
