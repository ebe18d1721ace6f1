"""Prometheus metrics of one process: base units, bounded labels, one registry an instance (no global state).

Fed by the HTTP layer (requests, stages, images) and by the engine (batches, queue); read by ``/metrics``.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Stages of a request, in order; also the names in the Server-Timing header.
STAGES = ("read", "decode", "queue", "infer", "encode")

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of the service, as attributes."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "mobilenet_requests_total", "Requests answered.", ["endpoint", "code"], registry=registry
        )
        self.request_duration = Histogram(
            "mobilenet_request_duration_seconds",
            "From the first byte of the request to the last of the answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_duration = Histogram(
            "mobilenet_stage_duration_seconds",
            "Time in one stage: read (body), decode, queue (for a decode thread and for a runner), infer, encode.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "mobilenet_batch_size", "Images in one forward pass.", buckets=_BATCHES, registry=registry
        )
        self.queue_depth = Gauge(
            "mobilenet_queue_depth", "Images waiting for a runner, decoded or not.", registry=registry
        )
        self.in_flight = Gauge(
            "mobilenet_in_flight", "Images admitted and not yet answered, large ones weighing more.", registry=registry
        )
        self.in_flight_limit = Gauge(
            "mobilenet_in_flight_limit", "Where mobilenet_in_flight ends and refusals begin.", registry=registry
        )
        self.rejected = Counter(
            "mobilenet_rejected_total", "Requests or images refused, by reason.", ["reason"], registry=registry
        )
        self.images = Counter(
            "mobilenet_images_total",
            "Images received, by format and outcome.",
            ["format", "outcome"],
            registry=registry,
        )
        self.cancelled = Counter(
            "mobilenet_cancelled_total", "Requests whose client went away before the answer.", registry=registry
        )
        self.batch_cost = Gauge(
            "mobilenet_batch_cost_seconds",
            "Time of one forward pass by batch size, measured at warm-up.",
            ["batch_size"],
            registry=registry,
        )
        self.model_info = Gauge(
            "mobilenet_model_info",
            "The model being served; always 1.",
            ["model", "version", "runtime", "device", "precision"],
            registry=registry,
        )
        self.ready = Gauge("mobilenet_ready", "1 if the service can infer.", registry=registry)
        #: Children of ``stage_duration``, found once: five look-ups a request cost more than what they look up.
        self.stages = {stage: self.stage_duration.labels(stage) for stage in STAGES}

    def watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Let ``gauge`` be read at scrape time; nothing is paid between scrapes."""
        gauge.set_function(read)

    def render(self) -> bytes:
        return generate_latest(self.registry)
