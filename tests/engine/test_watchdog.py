"""When is a thread late, when is the engine failing, and when is either final?"""

from __future__ import annotations

import threading

import pytest

from service.engine.watchdog import DECODE_FLOOR_S, DECODE_PIXEL_S, FAILED_AFTER, HUNG_AFTER, INFER_FLOOR_S, Watchdog
from tests.waiting import Clock


class Scene:
    """A watchdog and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.watchdog = Watchdog(self.clock)

    def late_after(self) -> float:
        """Seconds until the calling thread's step is late."""
        began = self.clock.now
        while self.watchdog.health != "late":
            self.clock.now += 0.01
        self.watchdog.idle()
        return self.clock.now - began


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(("usual_s", "late_s"), [(3.0, 2 * 4 * 3.0), (0.001, INFER_FLOOR_S)])
def test_a_forward_pass_is_late_after_twice_its_usual_time_or_a_floor(
    scene: Scene, usual_s: float, late_s: float
) -> None:
    scene.watchdog.expect(usual_s)
    scene.watchdog.inferring(4)
    assert scene.late_after() == pytest.approx(late_s, abs=0.02)
    assert scene.watchdog.health == "ready"


def test_what_is_usual_follows_what_is_observed(scene: Scene) -> None:
    scene.watchdog.expect(3.0)
    for _ in range(200):
        scene.watchdog.inferred(2, 10.0)
    scene.watchdog.inferring(1)
    assert scene.late_after() == pytest.approx(2 * 5.0, rel=0.01)


def test_a_decode_may_take_long_for_a_large_image(scene: Scene) -> None:
    scene.watchdog.decoding(50_000_000)
    assert scene.late_after() == pytest.approx(DECODE_FLOOR_S + 50_000_000 * DECODE_PIXEL_S, abs=0.02)


def test_a_decode_of_unknown_size_is_not_watched(scene: Scene) -> None:
    scene.watchdog.decoding(None)
    scene.clock.now += 1e6
    assert scene.watchdog.health == "ready"


def test_a_step_that_stays_late_is_a_hang(scene: Scene) -> None:
    scene.watchdog.inferring(1)
    scene.clock.now += INFER_FLOOR_S + 0.1
    assert [scene.watchdog.tick() for _ in range(HUNG_AFTER)] == [None] * HUNG_AFTER
    verdict = scene.watchdog.tick()
    assert verdict is not None
    assert verdict.end == "hung"
    assert verdict.reason.startswith("MainThread does not come back from watchdog.py:")


def test_steps_that_are_each_a_little_late_are_none(scene: Scene) -> None:
    for _ in range(5 * HUNG_AFTER):
        scene.watchdog.inferring(1)
        scene.clock.now += INFER_FLOOR_S + 0.1
        assert scene.watchdog.health == "late"
        assert scene.watchdog.tick() is None


def test_a_process_that_was_stopped_is_not_blamed(scene: Scene) -> None:
    """SIGSTOP, a debugger, a suspended machine: time passed, but nobody could work in it."""
    scene.watchdog.inferring(1)
    scene.clock.now += 3600
    assert scene.watchdog.tick() is None
    scene.watchdog.idle()
    assert scene.watchdog.health == "ready"
    assert scene.watchdog.tick() is None


def test_a_thread_that_died_at_work_is_late(scene: Scene) -> None:
    thread = threading.Thread(target=scene.watchdog.inferring, args=(1,))
    thread.start()
    thread.join()
    scene.clock.now += INFER_FLOOR_S + 0.1
    assert scene.watchdog.health == "late"
    verdicts = [scene.watchdog.tick() for _ in range(HUNG_AFTER + 1)]
    assert verdicts[-1] is not None
    assert verdicts[-1].reason == "a thread that has ended does not come back from its end"


def test_failures_without_a_success_are_final(scene: Scene) -> None:
    for _ in range(FAILED_AFTER):
        scene.watchdog.report(False)
        assert scene.watchdog.health == "failing"
        assert scene.watchdog.tick() is None
    scene.watchdog.report(False)
    verdict = scene.watchdog.tick()
    assert verdict is not None
    assert verdict.end == "failed"


def test_a_success_starts_the_count_again(scene: Scene) -> None:
    for _ in range(3):
        for _ in range(FAILED_AFTER):
            scene.watchdog.report(False)
            assert scene.watchdog.tick() is None
        scene.watchdog.report(True)
        assert scene.watchdog.health == "ready"


def test_one_failure_and_silence_are_no_evidence(scene: Scene) -> None:
    scene.watchdog.report(False)
    assert [scene.watchdog.tick() for _ in range(3 * FAILED_AFTER)] == [None] * 3 * FAILED_AFTER
