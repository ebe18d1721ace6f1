"""The estimate of how long an image would wait, and the refusals that follow from it."""

from __future__ import annotations

import contextlib

import pytest

from service.errors import BadImage, DeadlineExceeded, Overloaded
from service.serving.admission import Admission
from tests.waiting import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def answer(admission: Admission, clock: Clock, units: int, seconds: float, *, times: int = 1) -> None:
    """Images of ``units`` are answered after ``seconds``, ``times`` times."""
    for _ in range(times):
        with admission.in_engine(units):
            clock.now += seconds


def saturated(clock: Clock, unit_s: float) -> Admission:
    """An admission that has seen 500 answers, at ``unit_s`` seconds per unit."""
    admission = Admission(10_000, clock=clock)
    answer(admission, clock, 51, 51 * unit_s, times=500)
    return admission


def test_nothing_is_known_at_first(clock: Clock) -> None:
    admission = Admission(1000, clock=clock)
    with admission.in_engine(100):
        assert admission.estimated_wait() == 0.0
        assert admission.retry_after() == 1
        admission.admit(deadline=clock.now).release()


def test_the_cost_curve_speaks_until_an_image_was_answered(clock: Clock) -> None:
    admission = Admission(1000, clock=clock)
    admission.seed({})
    admission.seed({1: 0.004, 8: 0.008})
    with admission.in_engine(9):
        assert admission.estimated_wait() == pytest.approx(0.010)  # 0.008 s for 8 images is 1 ms each
    answer(admission, clock, 10, 1.0, times=500)
    admission.seed({1: 0.004})
    with admission.in_engine(9):
        assert admission.estimated_wait() == pytest.approx(1.0, rel=1e-3)


def test_an_image_with_few_before_it_lowers_the_estimate_and_never_raises_it(clock: Clock) -> None:
    """Alone an image takes 40 ms here, in a crowd of batches 2 ms: two hundred at once must not be turned away."""
    admission = Admission(1000, clock=clock)
    admission.seed({1: 0.020, 16: 0.032})
    answer(admission, clock, 1, 0.040, times=100)
    with admission.in_engine(199), contextlib.suppress(BadImage):
        assert admission.estimated_wait() == pytest.approx(0.4)
        raise BadImage("which teaches nothing about the queue")
    answer(admission, clock, 1, 0.001, times=500)
    with admission.in_engine(199):
        assert admission.estimated_wait() == pytest.approx(0.2, rel=1e-3)


def test_the_wait_grows_with_what_waits_and_with_what_comes(clock: Clock) -> None:
    admission = saturated(clock, 0.003)
    with admission.in_engine(99):
        assert admission.estimated_wait() == pytest.approx(0.300)
        assert admission.estimated_wait(7) == pytest.approx(0.318)
    assert admission.estimated_wait() == 0.0


def test_an_image_that_would_be_alone_is_always_tried(clock: Clock) -> None:
    admission = saturated(clock, 1e6)
    admission.admit(deadline=clock.now + 0.001).release()
    # Its answer corrects the average.
    answer(admission, clock, 1, 0.004, times=1000)
    with admission.in_engine(1):
        assert admission.estimated_wait() == pytest.approx(0.008, rel=1e-3)


def test_the_average_follows_a_change_within_some_dozen_answers(clock: Clock) -> None:
    admission = saturated(clock, 0.001)
    answer(admission, clock, 10, 1.0, times=100)
    with admission.in_engine(9):
        assert 0.90 < admission.estimated_wait() <= 1.0


@pytest.mark.parametrize(("waiting", "seconds"), [(1, 1), (100, 10), (105, 11), (1000, 30)])
def test_retry_after_is_the_time_of_the_queue_in_whole_seconds(clock: Clock, waiting: int, seconds: int) -> None:
    admission = saturated(clock, 0.1)
    with admission.in_engine(waiting):
        assert admission.retry_after() == seconds


@pytest.mark.parametrize(("unit_s", "enough", "too_little"), [(0.001, 0.226, 0.224), (0.01, 1.36, 1.34)])
def test_a_margin_is_left_before_the_deadline(clock: Clock, unit_s: float, enough: float, too_little: float) -> None:
    admission = saturated(clock, unit_s)
    with admission.in_engine(99):
        admission.check_time(1, clock.now + enough)
        admission.admit(deadline=clock.now + enough).release()
        with pytest.raises(Overloaded) as refused:
            admission.admit(deadline=clock.now + too_little)
        assert refused.value.retry_after == max(1, round(99 * unit_s))
    assert admission.in_flight == 0, "a refused request holds nothing"


def test_an_answer_that_came_too_late_raises_the_estimate_and_never_lowers_it(clock: Clock) -> None:
    admission = saturated(clock, 0.010)

    def late(seconds: float) -> float:
        with contextlib.suppress(DeadlineExceeded), admission.in_engine(10):
            clock.now += seconds
            raise DeadlineExceeded("late")
        with admission.in_engine(9), contextlib.suppress(BadImage):
            wait = admission.estimated_wait()
            raise BadImage("which teaches nothing about the queue")
        return wait

    assert late(0.050) == pytest.approx(0.1)
    assert late(1.0) > 0.11
