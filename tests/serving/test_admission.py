"""The admission limit: weights, refusal, shares of clients."""

from __future__ import annotations

import pytest

from service.config import Settings
from service.errors import Overloaded, TooManyRequests
from service.serving.admission import Admission, body_weight, image_weight
from service.serving.memory_limits import USUAL_IN_FLIGHT, USUAL_PIXELS


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


def test_low_priority_leaves_half_of_the_limit_to_others() -> None:
    admission = Admission(4)
    low = [admission.admit(low=True) for _ in range(2)]
    with pytest.raises(Overloaded):
        admission.admit(low=True)
    with admission.admit(2), pytest.raises(Overloaded):
        low[0].widen(2)
    for permit in low:
        permit.release()
    with admission.admit(100, low=True), admission.admit(2):
        assert admission.in_flight == 4, "alone it may be as heavy as it likes, and others have their room"


def test_a_request_heavier_than_the_limit_is_served_when_alone() -> None:
    admission = Admission(4)
    with admission.admit() as permit:
        permit.widen(100)
        assert admission.in_flight == 4
    with admission.admit(100):
        assert admission.in_flight == 4


def test_sixteen_requests_of_the_largest_size_fit_the_default_limits() -> None:
    admission = Admission(USUAL_IN_FLIGHT)
    permits = [admission.admit(body_weight(Settings().max_body_bytes)) for _ in range(16)]
    for permit in permits:
        permit.widen(image_weight(USUAL_PIXELS))


@pytest.mark.parametrize(("pixels", "units"), [(1, 1), (7_999_999, 1), (8_000_000, 2), (50_000_000, 7)])
def test_weight_grows_with_pixels(pixels: int, units: int) -> None:
    assert image_weight(pixels) == units


def test_the_refusal_says_when_to_come_back() -> None:
    admission = Admission(1)
    admission.seed({1: 7.0})
    with admission.admit(), admission.in_engine(1), pytest.raises(Overloaded) as refused:
        admission.admit()
    assert (refused.value.status, refused.value.retry_after) == (503, 7)


def test_no_client_holds_more_than_its_share() -> None:
    admission = Admission(8, share=0.5)
    greedy = [admission.admit(client="a") for _ in range(4)]
    with pytest.raises(TooManyRequests) as refused:
        admission.admit(client="a")
    assert (refused.value.status, refused.value.retry_after) == (429, 1)
    modest = [admission.admit(client="b") for _ in range(4)]
    with pytest.raises(Overloaded) as full:
        admission.admit(client="c")
    assert full.value.status == 503
    for permit in (*greedy, *modest):
        permit.__exit__()
    assert admission.in_flight == 0
    assert not admission._clients, "clients that hold nothing are forgotten"


def test_a_client_with_nothing_in_flight_may_send_what_is_heavier_than_its_share() -> None:
    admission = Admission(8, share=0.25)
    with admission.admit(client="a") as permit:
        permit.widen(5)
        with pytest.raises(TooManyRequests):
            admission.admit(client="a")
        with admission.admit(client="b") as other, admission.admit(client="b"), pytest.raises(TooManyRequests):
            other.widen(2)
    assert admission.in_flight == 0


def test_without_a_share_clients_are_not_told_apart() -> None:
    admission = Admission(3)
    with admission.admit(client="a"), admission.admit(client="a"), admission.admit(client="a"):
        assert admission.in_flight == 3
