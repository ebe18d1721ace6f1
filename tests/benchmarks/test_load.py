"""The load generator tells the truth: counts, refusals, and the waiting that a stalled server causes."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks import load, photos
from service.model.artifact import Artifact
from tests.fakes import FakeRuntime
from tests.running import png, running_app

pytestmark = pytest.mark.anyio


async def test_a_closed_loop_counts_answers_and_stages(artifact: Artifact) -> None:
    with running_app(artifact) as app:
        prepared = load.requests(app.url, "/classify", [png(1), png(2)])
        sample = await load.closed_loop(app.url, prepared, concurrency=4, seconds=0.3)
        assert set(sample.statuses) == {200}
        assert sample.statuses[200] == len(sample.latencies) == len(sample.stages["infer"])
        assert sample.statuses[200] == app.metric('mobilenet_requests_total{code="200",endpoint="classify"}')
        assert sample.rate == pytest.approx(sample.statuses[200] / sample.seconds)


async def test_refusals_are_counted_and_have_no_latency(artifact: Artifact) -> None:
    with running_app(artifact) as app:
        prepared = load.requests(app.url, "/classify", [b"no image"])
        sample = await load.closed_loop(app.url, prepared, concurrency=2, seconds=0.1)
        assert set(sample.statuses) == {415}
        assert sample.latencies == []
        assert sample.rate == 0


async def test_an_open_loop_counts_latency_from_when_a_request_was_due(artifact: Artifact) -> None:
    stalled = threading.Event()

    def stall_once(images: NDArray[np.uint8]) -> None:
        if images[0, 0, 0, 2] == 1 and not stalled.is_set():
            stalled.set()
            time.sleep(0.3)

    # Time enough for a queue that is judged by the stalled batch: 0.3 s for each of some thirty images.
    with running_app(artifact, FakeRuntime(max_batch=1, before=stall_once), request_timeout_ms=60_000) as app:
        prepared = load.requests(app.url, "/classify", [png(1)])
        sample = await load.open_loop(app.url, prepared, rate=100, seconds=0.6)
    assert sample.statuses[200] == 60
    # Some thirty requests fell due during the stall. A closed loop would have sent, and timed, one of them.
    assert sum(latency > 0.1 for latency in sample.latencies) > 10


def test_synthetic_photos_are_photos(tmp_path: Path) -> None:
    first, second = photos.collection("500x375", 2)
    assert first != second
    with Image.open(io.BytesIO(first)) as image:
        assert (image.size, image.mode, image.format) == ((500, 375), "RGB", "JPEG")
        assert np.asarray(image).std() > 20
    assert photos.collection("500x375", 1) == [first], "the same every time"
    photos.save(tmp_path / "photos", [first, second])
    assert photos.from_folder(tmp_path / "photos") == [first, second]
