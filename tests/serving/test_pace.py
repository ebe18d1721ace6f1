"""The estimate of how long an image would take."""

from __future__ import annotations

import pytest

from service.serving.pace import Pace


def saturated(seconds_a_unit: float, *, waiting: int = 50, answers: int = 500) -> Pace:
    """A pace that has seen ``answers`` images, each of which found ``waiting`` others."""
    pace = Pace()
    for _ in range(answers):
        pace.observe(waiting + 1, (waiting + 1) * seconds_a_unit)
    return pace


def test_nothing_is_known_at_first() -> None:
    pace = Pace()
    assert not pace.known
    pace.enter(100)
    assert pace.wait() == 0.0
    assert pace.retry_after() == 1


def test_the_cost_curve_speaks_until_something_was_answered() -> None:
    pace = Pace()
    pace.seed({1: 0.004, 8: 0.008})
    assert pace.known
    pace.enter(9)
    assert pace.wait() == pytest.approx(0.010)  # 0.008 s for 8 images is 1 ms each
    for _ in range(500):
        pace.observe(10, 1.0)
    assert pace.wait() == pytest.approx(1.0, rel=1e-3)
    pace.seed({1: 0.004})
    assert pace.wait() == pytest.approx(1.0, rel=1e-3)


def test_an_image_with_few_before_it_lowers_the_estimate_and_never_raises_it() -> None:
    """Alone an image takes 40 ms here, in a crowd of batches 2 ms: two hundred at once must not be turned away."""
    pace = Pace()
    pace.seed({1: 0.020, 16: 0.032})
    for _ in range(100):
        pace.observe(1, 0.040)
    pace.enter(199)
    assert pace.wait() == pytest.approx(0.4)
    for _ in range(500):
        pace.observe(1, 0.001)
    assert pace.wait() == pytest.approx(0.2, rel=1e-3)


def test_an_empty_cost_curve_says_nothing() -> None:
    pace = Pace()
    pace.seed({})
    assert not pace.known


def test_the_wait_grows_with_what_waits_and_with_what_comes() -> None:
    pace = saturated(0.003)
    assert pace.enter(99) == 99
    assert pace.wait() == pytest.approx(0.300)
    assert pace.wait(7) == pytest.approx(0.318)
    pace.leave(99)
    assert pace.wait() == 0.0


def test_an_image_that_would_be_alone_is_always_tried() -> None:
    pace = saturated(1e6)
    assert pace.wait(7) == 0.0
    # … and its answer corrects the average.
    for _ in range(1000):
        found = pace.enter(1)
        pace.leave(1)
        pace.observe(found, 0.004)
    pace.enter(1)
    assert pace.wait(1) == pytest.approx(0.008, rel=1e-3)


def test_the_average_follows_a_change_within_some_dozen_answers() -> None:
    pace = saturated(0.001)
    pace.enter(9)
    for _ in range(100):
        pace.observe(10, 0.100)
    assert 0.090 < pace.wait() <= 0.100


@pytest.mark.parametrize(("waiting", "seconds"), [(1, 1), (100, 10), (105, 11), (1000, 30)])
def test_retry_after_is_the_time_of_the_queue_in_whole_seconds(waiting: int, seconds: int) -> None:
    pace = saturated(0.1)
    pace.enter(waiting)
    assert pace.retry_after() == seconds


def test_a_margin_is_kept_to_the_deadline() -> None:
    pace = saturated(0.001)
    pace.enter(99)
    assert not pace.hopeless(1, remaining=0.226)
    assert pace.hopeless(1, remaining=0.224)
    pace.enter(900)
    assert not pace.hopeless(1, remaining=1.36)
    assert pace.hopeless(1, remaining=1.34)


def test_what_came_too_late_raises_the_estimate_and_never_lowers_it() -> None:
    pace = saturated(0.010)
    pace.enter(9)
    before = pace.wait()
    pace.observe_late(10, 0.050)
    assert pace.wait() == before
    pace.observe_late(10, 1.0)
    assert pace.wait() > before
