"""The core without a transport: what is refused at once, what is inspected, what is counted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from service.config import Settings
from service.errors import BadImage, BodyTooLarge, Overloaded, UnsupportedFormat
from service.metrics import Metrics
from service.processes.wire.remote_engine import RemoteEngine
from service.processes.wire.slots import Layout
from service.serving.build import create_intake, create_served
from service.serving.intake import Answer, StageTimes
from tests.artifacts import make_artifact
from tests.engine.remote import listen
from tests.fakes import FakeRuntime, marker_of, started
from tests.running import png

pytestmark = pytest.mark.anyio


async def test_images_of_one_request_have_an_outcome_each(tmp_path: Path) -> None:
    artifact, metrics = make_artifact(tmp_path, crop_size=32), Metrics()
    async with started(FakeRuntime(), model=artifact.reference, metrics=metrics) as engine:
        served = create_served(Settings(), artifact, engine, max_pixels=100_000)
        intake = create_intake(Settings(), 8, metrics)
        deadline, times = intake.deadline(None), StageTimes()
        with intake.admit(1000, deadline) as permit:
            photos = await intake.inspect(served, [png(5), b"", b"text", png(6)], permit, deadline)
            assert intake.admission.in_flight == 2
            first, empty, text, last = await intake.infer(served, photos, deadline, times)
        assert intake.admission.in_flight == 0
    assert isinstance(first, Answer)
    assert isinstance(last, Answer)
    assert [marker_of(answer.result.output.embedding) for answer in (first, last)] == [5, 6]
    assert first.header.format == "png"
    assert (type(empty), type(text)) == (BadImage, UnsupportedFormat)
    assert "decode;dur=" in times.header()
    counted = {
        (sample.labels["format"], sample.labels["outcome"]): sample.value
        for family in metrics.images.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert counted == {("png", "ok"): 2, ("unknown", "bad_image"): 1, ("unknown", "unsupported_format"): 1}


async def test_a_client_can_only_shorten_the_deadline() -> None:
    intake = create_intake(Settings(request_timeout_ms=2000), 8, Metrics())
    now = time.monotonic()
    for timeout_ms, seconds in ((None, 2.0), (500, 0.5), (60_000, 2.0)):
        assert intake.deadline(timeout_ms) - now == pytest.approx(seconds, abs=0.2)


async def test_a_body_over_the_limit_is_refused_before_anything_is_held() -> None:
    intake = create_intake(Settings(max_body_bytes=1000), 8, Metrics())
    with pytest.raises(BodyTooLarge, match="1000 bytes"):
        intake.admit(1001, intake.deadline(None))
    assert intake.admission.in_flight == 0


async def test_admission_waits_for_nothing_when_the_engine_is_silent(tmp_path: Path) -> None:
    """The engine's socket is open and nobody answers on it: a hundred requests at once, a limit of eight."""
    silent, address = listen()
    artifact, metrics = make_artifact(tmp_path, crop_size=32), Metrics()
    engine = RemoteEngine(
        artifact.reference,
        [address],
        Layout.of(artifact),
        decode_threads=1,
        metrics=metrics,
        on_fatal=lambda reason: None,
    )
    engine.start()
    intake = create_intake(Settings(), 8, metrics)
    held: list[object] = []

    async def request() -> str:
        try:
            held.append(intake.admit(1000, intake.deadline(None)))
        except Overloaded:
            return "refused"
        return "admitted"

    try:
        fates = await asyncio.wait_for(asyncio.gather(*(request() for _ in range(100))), 1.0)
    finally:
        await engine.aclose()
        silent.close()
    assert (fates.count("admitted"), fates.count("refused")) == (8, 92)
