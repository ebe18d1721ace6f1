"""What is repeated, when, for how long and where."""

from __future__ import annotations

import random
from collections import Counter

import httpx
import pytest

from fake_service import Answer, FakeService, by_proxy, in_turn, problem
from mobilenet_client import ServiceError, ServiceUnavailable, Timeout, wire


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited for before each repetition, without waiting."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(wire, "sleep", sleep)
    return found


@pytest.mark.parametrize(
    "trouble",
    [httpx.ConnectError("refused"), httpx.ReadError(""), *(by_proxy(status) for status in (429, 502, 503, 504))],
    ids=["refused", "cut", "429", "502", "503", "504"],
)
def test_what_may_pass_is_asked_again(paused: list[float], trouble: Answer) -> None:
    service = FakeService(in_turn(trouble, trouble, trouble))
    with service.client() as client:
        assert client.classify(b"7").predictions[0].index == 7
    assert len(service.requests) == 4
    assert len(paused) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 413, 415, 422, 504])
def test_what_the_service_decided_is_not_asked_again(paused: list[float], status: int) -> None:
    service = FakeService(in_turn(problem(status)))
    with service.client() as client, pytest.raises(ServiceError) as raised:
        client.classify(b"7")
    assert (raised.value.status, len(service.requests), paused) == (status, 1, [])


def test_500_is_asked_again_once(paused: list[float]) -> None:
    service = FakeService(in_turn(problem(500), problem(503), problem(500), problem(500), problem(500)))
    with service.client() as client:
        with pytest.raises(ServiceError, match="500 Title"):
            client.classify(b"7")
        assert len(service.requests) == 3
        with pytest.raises(ServiceError, match="500 Title"):
            client.classify(b"7")
        assert client.classify(b"7").predictions[0].index == 7
    assert len(service.requests) == 6


def test_retry_after_is_honoured_and_blurred(paused: list[float]) -> None:
    service = FakeService(in_turn(*(by_proxy(status, **{"Retry-After": "2"}) for status in (429, 503, 503))))
    with service.client() as client:
        client.classify(b"7")
    assert all(2 <= pause <= 2.5 for pause in paused)
    assert len(set(paused)) == 3


def test_without_retry_after_pauses_grow_to_five_seconds(paused: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high if low == 0 else low)
    service = FakeService(in_turn(*(by_proxy(503, **{"Retry-After": "tomorrow"}) for _ in range(8))))
    with service.client(timeout=60) as client:
        client.classify(b"7")
    assert paused == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_pause_beyond_the_deadline_is_not_begun(paused: list[float]) -> None:
    service = FakeService(in_turn(by_proxy(503, **{"Retry-After": "30"})))
    with service.client(timeout=5) as client, pytest.raises(ServiceUnavailable, match="503"):
        client.classify(b"7")
    assert paused == []


@pytest.mark.parametrize("retries", [0, 2])
def test_repetitions_may_be_limited(paused: list[float], retries: int) -> None:
    service = FakeService(lambda request, number: by_proxy(503))
    with service.client(retries=retries) as client, pytest.raises(ServiceUnavailable):
        client.classify(b"7")
    assert len(service.requests) == 1 + retries


def test_the_time_that_is_left_is_sent(paused: list[float]) -> None:
    service = FakeService(in_turn(by_proxy(503), by_proxy(503)))
    service.delay = 0.01
    with service.client(timeout=20) as client:
        client.classify(b"7")
    first, *others = [int(request.headers["X-Request-Timeout-Ms"]) for request in service.requests]
    assert 15_000 < first <= 20_000
    assert first - 10 >= others[0] >= others[1] + 10


def test_each_try_of_a_run_has_the_timeout_and_the_run_more(paused: list[float]) -> None:
    service = FakeService(lambda request, number: by_proxy(503) if number < 60 else None)
    with service.client(timeout=0.1, retry_for=60, concurrency=1) as client:
        service.delay = 0.005  # so sixty times "not now" take longer than one try may
        (result,) = client.classify_many([b"7"])
    assert not isinstance(result, ServiceError)
    assert all(int(request.headers["X-Request-Timeout-Ms"]) <= 100 for request in service.requests)


def test_without_an_answer_in_time_the_request_is_given_up() -> None:
    service = FakeService()
    service.held.add(b"7")
    with service.client(timeout=0.05) as client, pytest.raises(Timeout, match="No answer in time") as raised:
        client.classify(b"7")
    assert raised.value.status == 0
    assert service.cancelled == len(service.requests) == 1


def test_an_unreachable_service_is_named(paused: list[float]) -> None:
    service = FakeService(lambda request, number: httpx.ConnectError("All connection attempts failed"))
    with service.client(retries=1) as client, pytest.raises(ServiceUnavailable, match="http://service: All") as raised:
        client.classify(b"7")
    assert raised.value.status == 0


def hosts(service: FakeService) -> list[str]:
    return [request.url.host for request in service.requests]


def test_addresses_are_asked_in_turn() -> None:
    service = FakeService()
    with service.client(["http://a", "http://b/under/a/prefix"]) as client:
        for _ in range(6):
            client.classify(b"7")
    assert Counter(hosts(service)) == {"a": 3, "b": 3}
    assert {request.url.path for request in service.requests} == {"/classify", "/under/a/prefix/classify"}


def test_the_next_address_is_asked_without_a_pause(paused: list[float]) -> None:
    service = FakeService(lambda request, number: None if request.url.host == "b" else httpx.ConnectError("refused"))
    with service.client(["http://a", "http://b"]) as client:
        for _ in range(4):
            client.classify(b"7")
    assert hosts(service).count("b") == 4
    assert paused == [0.0] * hosts(service).count("a")
    assert hosts(service).count("a") == 2


def test_once_every_address_has_refused_there_is_a_pause(paused: list[float]) -> None:
    service = FakeService(in_turn(*(by_proxy(503, **{"Retry-After": "1"}) for _ in range(3))))
    with service.client(["http://a", "http://b"]) as client:
        client.classify(b"7")
    assert paused[0] == 0
    assert all(1 <= pause <= 1.25 for pause in paused[1:])
    assert len(set(hosts(service)[:2])) == len(set(hosts(service)[2:])) == 2


def test_key_and_priority_are_sent() -> None:
    service = FakeService()
    with service.client(api_key="secret", priority="low") as client, service.client() as plain:
        client.classify(b"7")
        plain.classify(b"7")
    first, second = (request.headers for request in service.requests)
    assert (first["Authorization"], first["X-Priority"]) == ("Bearer secret", "low")
    assert not {"authorization", "x-priority"} & set(second)


@pytest.mark.parametrize("url", ["service:8000", "ftp://service", []])
def test_what_is_no_address_is_refused(url: str | list[str]) -> None:
    with pytest.raises(ValueError, match="address"):
        FakeService().client(url)
