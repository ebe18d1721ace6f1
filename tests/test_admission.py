"""The admission limit: weights, refusal, Retry-After."""

from __future__ import annotations

import pytest

from service.admission import Admission, body_weight, image_weight
from service.config import Settings
from service.errors import Overloaded


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_permits_are_given_up_to_the_limit_and_come_back() -> None:
    admission = Admission(2)
    with admission.admit(), admission.admit():
        assert admission.in_flight == 2
        with pytest.raises(Overloaded):
            admission.admit()
    assert admission.in_flight == 0
    with admission.admit():
        pass


def test_a_permit_widens_by_the_images_it_turns_out_to_hold() -> None:
    admission = Admission(10)
    with admission.admit() as permit:
        permit.widen(7)
        assert admission.in_flight == 7
        with admission.admit() as other, pytest.raises(Overloaded):
            other.widen(4)
        assert admission.in_flight == 7
    assert admission.in_flight == 0


def test_a_request_heavier_than_the_limit_is_served_when_alone() -> None:
    admission = Admission(4)
    with admission.admit() as permit:
        permit.widen(100)
        assert admission.in_flight == 4
    with admission.admit(100):
        assert admission.in_flight == 4


def test_sixteen_requests_of_the_largest_size_fit_the_default_limits() -> None:
    settings = Settings()
    admission = Admission(settings.max_in_flight)
    permits = [admission.admit(body_weight(settings.max_body_bytes)) for _ in range(16)]
    for permit in permits:
        permit.widen(image_weight(settings.max_pixels))


@pytest.mark.parametrize(("pixels", "units"), [(1, 1), (7_999_999, 1), (8_000_000, 2), (50_000_000, 7)])
def test_weight_grows_with_pixels(pixels: int, units: int) -> None:
    assert image_weight(pixels) == units


def busy(admission: Admission, clock: Clock, *, seconds: int, units_a_second: int) -> None:
    for _ in range(seconds):
        permits = [admission.admit() for _ in range(units_a_second)]
        clock.now += 1.0
        for permit in permits:
            permit.__exit__()


def refused_at_the_limit(admission: Admission) -> int:
    permits = [admission.admit() for _ in range(admission.limit)]
    with pytest.raises(Overloaded) as refused:
        admission.admit()
    for permit in permits:
        permit.__exit__()
    return refused.value.retry_after


def test_retry_after_follows_the_measured_rate() -> None:
    clock = Clock()
    admission = Admission(100, clock)
    assert refused_at_the_limit(admission) == 1  # nothing is known yet
    admission = Admission(100, clock)
    busy(admission, clock, seconds=20, units_a_second=10)
    # 100 units at 10 a second; the average approaches 10 from below, so rounding up may give one more.
    assert refused_at_the_limit(admission) in (10, 11)


def test_idle_time_does_not_count_as_slowness() -> None:
    clock = Clock()
    admission = Admission(100, clock)
    busy(admission, clock, seconds=20, units_a_second=50)
    clock.now += 3600.0
    assert refused_at_the_limit(admission) in (2, 3)


def test_retry_after_is_bounded() -> None:
    clock = Clock()
    admission = Admission(1000, clock)
    busy(admission, clock, seconds=20, units_a_second=1)
    assert refused_at_the_limit(admission) == 30
