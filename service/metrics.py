"""Prometheus metrics: base units, bounded labels, one registry per instance.

Written by ``http`` (requests, stages), ``serving`` (images), ``engine`` (batches, queue) and the supervisor
(processes); read by ``/metrics``. After ``share``, the metrics of several processes are one: the library keeps every
value in a file in a shared directory, and each process can read all files (ADR 17).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
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

# They would double the samples of counters and histograms, and do not work with several processes.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Stages of a request, in order; also the names in the ``Server-Timing`` header.
STAGES = ("read", "decode", "queue", "infer", "encode")

#: Up to the longest deadline that can be set.
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_COSINES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)

#: Labels of metrics that are kept per model.
_MODEL = ("model", "version")

#: Names of the library's files.
_FILE = re.compile(r"(counter|histogram|gauge_live(sum|max))_[\w.-]+\.db")

#: The shared directory and this process's name in it. Global, as the library's own setting is.
_shared: tuple[Path, str] | None = None


def share(directory: str | Path, process: str) -> None:
    """Make every ``Metrics`` created from now on part of those in ``directory``, which several processes share.

    ``process`` must be unique among running processes. A later process of the same name continues its counters, so
    they never decrease and no files accumulate.
    """
    global _shared
    _shared = (Path(directory), process)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]  # it has no types


def forget(directory: str | Path, process: str) -> None:
    """Remove the gauges of a process that has ended; its counters stay."""
    mark_process_dead(process, str(directory))  # type: ignore[no-untyped-call]  # it has no types


class Metrics:
    """Every metric of the service, as attributes."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        #: Gauges, or children of gauges: two engines that watch one gauge have a child each.
        self._watched: dict[Gauge, Callable[[], float]] = {}
        self._models: dict[str, ModelMetrics] = {}
        self._process_metrics: _ProcessMetrics | None = None
        #: What ``render`` shows.
        self._rendered = registry if _shared is None else CollectorRegistry()
        PlatformCollector(registry=self._rendered)
        if _shared is None:
            ProcessCollector(registry=registry)
        else:
            directory, process = _shared
            self._process_metrics = _ProcessMetrics(process, registry)
            self._rendered.register(_AllProcesses(directory))
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry, buckets=_SECONDS)
        # How processes that share their metrics combine: gauges of work add up; for facts the largest value is shown.
        summed = partial(Gauge, multiprocess_mode="livesum", registry=registry)
        largest = partial(Gauge, multiprocess_mode="livemax", registry=registry)
        self.requests = counter("mobilenet_requests_total", "Requests answered.", ["endpoint", "code"])
        self.request_duration = histogram(
            "mobilenet_request_duration_seconds",
            "From the request's head to the last byte of the answer.",
            ["endpoint"],
        )
        self.stage_duration = histogram(
            "mobilenet_stage_duration_seconds",
            "Time in one stage: read (body), decode, queue (for a decode thread and for a runner), infer, encode.",
            (*_MODEL, "stage"),
        )
        self.batch_size = histogram("mobilenet_batch_size", "Images in one forward pass.", _MODEL, buckets=_BATCHES)
        self.queue_depth = summed("mobilenet_queue_depth", "Images waiting for a runner, decoded or not.", _MODEL)
        self.in_flight = summed(
            "mobilenet_in_flight", "Images admitted and not yet answered; large images count as several."
        )
        self.in_flight_limit = summed(
            "mobilenet_in_flight_limit", "The most that mobilenet_in_flight may be; beyond it requests are refused."
        )
        self.rejected = counter("mobilenet_rejected_total", "Requests or images refused, by reason.", ["reason"])
        self.images = counter(
            "mobilenet_images_total", "Images received, by format and outcome.", (*_MODEL, "format", "outcome")
        )
        self.cancelled = counter("mobilenet_cancelled_total", "Requests whose client disconnected before the answer.")
        self.batch_cost = largest(
            "mobilenet_batch_cost_seconds",
            "Time of one forward pass by batch size, measured at warm-up.",
            (*_MODEL, "batch_size"),
        )
        self.model_info = largest(
            "mobilenet_model_info",
            "A model that is being served; always 1.",
            (*_MODEL, "runtime", "device", "precision"),
        )
        self.ready = largest("mobilenet_ready", "1 if the service can infer.")
        #: Of canaries and shadows, by model; without one a model has no samples.
        self.canary_percent = largest(
            "mobilenet_canary_percent", "Share of requests that the canary gets; 0 once it is held.", ["model"]
        )
        self.rollbacks = counter(
            "mobilenet_rollbacks_total", "Canaries taken out of rotation, by reason.", ["model", "reason"]
        )
        self.shadow_sample = largest("mobilenet_shadow_sample", "Share of answers that the shadow repeats.", ["model"])
        self.shadow_images = counter(
            "mobilenet_shadow_images_total", "Images for the shadow, by outcome.", ["model", "outcome"]
        )
        self.shadow_agreement = counter(
            "mobilenet_shadow_top1_agreement_total",
            "Images that the shadow has answered, by whether its first label was that of the answer.",
            ["model", "agree"],
        )
        self.shadow_cosine = histogram(
            "mobilenet_shadow_embedding_cosine",
            "Cosine between the embeddings of the shadow and of the answer.",
            ["model"],
            buckets=_COSINES,
        )
        self.shadow_infer = histogram("mobilenet_shadow_infer_seconds", "Time of the shadow's forward pass.", ["model"])
        #: Only the supervisor sets these two; without one they have no samples.
        self.processes = largest("mobilenet_processes", "Worker and engine processes, by state.", ["kind", "state"])
        self.process_exits = counter(
            "mobilenet_process_exits_total",
            "Processes that ended without being told to, by reason.",
            ["process", "reason"],
        )

    def model(self, reference: str) -> ModelMetrics:
        """The metrics of one model, ``name/version``; the same object for the same model."""
        if reference not in self._models:
            self._models[reference] = ModelMetrics(self, *reference.split("/"))
        return self._models[reference]

    def show_aliases(self, model: str, canary_percent: float | None, shadow_sample: float | None) -> None:
        """What a model's canary and shadow get; None: there is none. To be called after each change of them."""
        for gauge, value in ((self.canary_percent, canary_percent), (self.shadow_sample, shadow_sample)):
            if value is not None:
                gauge.labels(model).set(value)
            elif _shared is None:  # else the library cannot, and the processes are new ones after a change
                gauge.remove(model)

    def forget(self, reference: str) -> None:
        """Remove the series of a model that has been unloaded. Not where metrics are shared: there a process unloads
        its models when it ends."""
        if _shared is not None or (model := self._models.pop(reference, None)) is None:
            return
        self._watched.pop(model.queue_depth, None)
        labels = dict(zip(_MODEL, reference.split("/"), strict=True))
        of_load = (self.batch_size, self.queue_depth, self.batch_cost, self.model_info)
        for metric in (self.stage_duration, self.images, *of_load):
            metric.remove_by_labels(labels)

    def watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Let ``sample`` set ``gauge``, or a child of it, to what ``read`` returns."""
        self._watched[gauge] = read

    def sample(self) -> None:
        """Set the watched gauges. Where metrics are shared, other processes see the values of the last call."""
        for gauge, read in list(self._watched.items()):
            gauge.set(read())
        if self._process_metrics is not None:
            self._process_metrics.sample()

    def render(self) -> bytes:
        self.sample()
        return generate_latest(self._rendered)


class ModelMetrics:
    """The metrics of one model. Children are looked up once: five look-ups cost more than the observations."""

    def __init__(self, metrics: Metrics, name: str, version: str) -> None:
        self.batch_size = metrics.batch_size.labels(name, version)
        self.queue_depth = metrics.queue_depth.labels(name, version)
        self.stages = {stage: metrics.stage_duration.labels(name, version, stage) for stage in STAGES}
        #: Given the other labels' values, each returns the child.
        self.batch_cost = partial(metrics.batch_cost.labels, name, version)
        self.images = partial(metrics.images.labels, name, version)
        self.info = partial(metrics.model_info.labels, name, version)


class _ProcessMetrics:
    """The library's metrics of a process, ``process_resident_memory_bytes`` and others, labelled with its name."""

    def __init__(self, process: str, registry: CollectorRegistry) -> None:
        self._process = process
        self._source = ProcessCollector(registry=None)
        self._metrics: dict[str, Gauge | Counter] = {}
        self._counted: dict[str, float] = {}  # this process's part of each counter; the rest is its predecessors'
        gauge = partial(Gauge, multiprocess_mode="livemax")
        for family in self._source.collect():
            kind = Counter if family.type == "counter" else gauge
            self._metrics[family.name] = kind(family.name, family.documentation, ["process"], registry=registry)

    def sample(self) -> None:
        for family in self._source.collect():
            name, value = family.name, family.samples[0].value
            metric = self._metrics.get(name)
            if isinstance(metric, Gauge):
                metric.labels(self._process).set(value)
            elif isinstance(metric, Counter):
                metric.labels(self._process).inc(max(0.0, value - self._counted.get(name, 0.0)))
                self._counted[name] = value


class _AllProcesses(Collector):
    """All processes' metrics, from the library's files in ``directory``; other files are ignored."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in sorted(self._directory.iterdir()) if _FILE.fullmatch(file.name) and _size(file)]
        try:
            return _merged(files)
        except Exception:
            logger.exception("a file of metrics cannot be read and is left out")
            readable = []
            for file in files:
                with suppress(Exception):
                    _merged([file])
                    readable.append(file)
            return _merged(readable)


def _merged(files: list[str]) -> list[Metric]:
    return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]  # it has no types


def _size(file: Path) -> int:
    """0 for a file that has been removed, or was only just created and would make the library fail."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
