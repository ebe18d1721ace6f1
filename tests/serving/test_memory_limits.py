"""The sizes that follow from memory."""

from __future__ import annotations

import pytest

from service.config import Settings
from service.serving import build
from service.serving.build import engine_plan, worker_plan
from service.serving.memory_limits import pixels_per_image, units_in_flight

MiB = 2**20


@pytest.mark.parametrize(
    ("memory", "decoders", "in_flight", "megapixels"),
    [  # the table of docs/configuration.md
        (512, 1, 32, 12.6),
        (1024, 1, 96, 37.7),
        (1024, 2, 96, 18.9),
        (1536, 1, 160, 50),
        (4096, 4, 256, 47.2),
        (100, 1, 8, 1),
        (100_000, 2, 256, 50),
    ],
)
def test_limits_follow_memory(memory: int, decoders: int, in_flight: int, megapixels: float) -> None:
    assert units_in_flight(memory * MiB) == in_flight
    assert pixels_per_image(memory * MiB, decoders) / 1e6 == pytest.approx(megapixels, abs=0.05)


def test_settings_that_are_numbers_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "available_memory", lambda: 300 * MiB)
    planned = engine_plan(Settings(max_in_flight=300, max_pixels=10**9, device="cpu"))
    assert (planned.max_in_flight, planned.max_pixels) == (300, 10**9)


def test_workers_share_what_the_engines_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "available_memory", lambda: 4096 * MiB)
    monkeypatch.setattr(build, "available_cores", lambda: 8)
    _, in_flight, _ = worker_plan(Settings(workers=2))
    assert in_flight == units_in_flight((4096 - 256) * MiB // 2)
    assert [worker_plan(Settings(workers=workers))[0] for workers in (1, 2, 3, 8, 16)] == [8, 4, 3, 2, 2]
