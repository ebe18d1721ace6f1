"""Many images: their order, how many are held, errors in place, and what ends a run."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from fake_service import Answer, FakeService, by_proxy, numbered, problem
from mobilenet_client import (
    BadImage,
    BadParameter,
    Classification,
    Embedding,
    EmbeddingMismatch,
    ServiceError,
    ServiceUnavailable,
    Unauthorized,
    wire,
)
from mobilenet_client.bulk import WAITING
from tests.waiting import eventually, until


def index_of(outcome: Classification | ServiceError) -> int:
    assert isinstance(outcome, Classification), outcome
    return outcome.predictions[0].index


def refusing(*bodies: bytes, status: int = 415) -> FakeService:
    return FakeService(lambda request, number: problem(status) if request.content in bodies else None)


def test_results_come_in_the_order_given_whatever_the_order_of_answers() -> None:
    service = FakeService()
    service.held.update(numbered(3))

    async def run() -> list[int]:
        async with service.async_client(concurrency=4) as client:
            many = asyncio.create_task(client.classify_many(numbered(40)))
            await eventually(lambda: len(service.requests) == 40)
            for body in reversed(numbered(3)):
                service.held.remove(body)
            return [index_of(outcome) for outcome in await many]

    assert asyncio.run(run()) == list(range(40))


class Counted:
    """An iterable that is not in memory and counts what is taken from it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = self.answered = self.most_held = 0

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.count):
            self.taken += 1
            self.most_held = max(self.most_held, self.taken - self.answered)
            yield b"%d" % number

    def progress(self, done: int) -> None:
        self.answered = done


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_more_images_are_held_than_asked_about(count: int) -> None:
    service = FakeService()
    service.delay = 0.002
    images = Counted(count)
    with service.client(concurrency=8) as client:
        for expected, (key, outcome) in enumerate(client.classify_iter(images, progress=images.progress)):
            assert key == index_of(outcome) == expected
    assert images.taken == images.answered == count
    assert 1 < service.most_at_once <= 8
    assert 1 < images.most_held <= 8


def test_answers_that_wait_for_an_earlier_one_are_bounded() -> None:
    service = FakeService()
    service.held.add(b"0")
    images = Counted(10_000)

    async def run() -> None:
        async with service.async_client(concurrency=4) as client:
            each = client.classify_iter(images, progress=images.progress)
            first = asyncio.ensure_future(anext(each))
            await eventually(lambda: images.answered == 4 * WAITING - 1)
            for _ in range(100):
                await asyncio.sleep(0.001)
            assert images.taken == 4 * WAITING
            service.held.clear()
            assert (await first)[0] == 0
            assert [(await anext(each))[0] for _ in range(200)] == list(range(1, 201))
            await each.aclose()

    asyncio.run(run())


def test_errors_stand_in_their_places() -> None:
    with refusing(b"1", b"3").client() as client:
        outcomes = client.classify_many(numbered(5))
    assert [isinstance(outcome, BadImage) for outcome in outcomes] == [False, True, False, True, False]


def test_errors_are_raised_on_request_after_what_came_before() -> None:
    with refusing(b"3").client() as client:
        steps = client.classify_iter(numbered(50), errors="raise")
        assert [next(steps)[0] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(BadImage):
            next(steps)


def test_vectors_are_one_matrix_with_nan_where_an_image_failed() -> None:
    with refusing(b"1").client() as client:
        result = client.embed_many(numbered(3))
    assert result.vectors.dtype == np.float32
    np.testing.assert_array_equal(result.vectors, [[0, 0], [np.nan, np.nan], [2, 2]])
    assert {row: error.status for row, error in result.errors.items()} == {1: 415}
    assert result.embedding_id is None


def test_a_matrix_of_failures_and_one_of_nothing_are_empty() -> None:
    with refusing(b"0", b"1").client() as client:
        assert client.embed_many(numbered(2)).vectors.shape == (2, 0)
        assert client.embed_many([]).vectors.shape == (0, 0)


def test_warnings_of_vectors_come_from_headers() -> None:
    def says(request: httpx.Request, number: int) -> Answer | None:
        told = {b"0": {"X-Warning-Count": "0"}, b"1": {"X-Warning-Count": "1", "X-Warning": "one"}}
        headers = told.get(request.content, {"X-Warning-Count": "3", "X-Warning": "first"})
        return httpx.Response(200, headers=headers, content=bytes(8))

    with FakeService(says).client() as client:
        assert client.embed_many(numbered(3)).warnings == {1: ("one",), 2: ("first", "and 2 more")}


async def arriving() -> AsyncIterator[bytes]:
    for body in numbered(3):
        await asyncio.sleep(0)
        yield body


@pytest.mark.parametrize(
    ("images", "keys"),
    [
        (numbered(3), [0, 1, 2]),
        (iter(numbered(3)), [0, 1, 2]),
        ({"a": b"0", "b": b"1"}, ["a", "b"]),
        ([("a", b"0"), ("b", b"1")], ["a", "b"]),
        (arriving(), [0, 1, 2]),
    ],
    ids=["list", "iterator", "mapping", "pairs", "asynchronous"],
)
def test_results_carry_the_keys_of_their_images(images: Any, keys: list[Any]) -> None:
    with FakeService().client() as client:
        found = list(client.classify_iter(images))
    assert [key for key, _ in found] == keys
    assert [index_of(outcome) for _, outcome in found] == list(range(len(keys)))


def test_one_image_is_not_taken_for_many() -> None:
    for image in ("photo.jpg", b"0"):
        with FakeService().client() as client, pytest.raises(TypeError, match="one image"):
            client.classify_many(image)


def test_what_the_iterable_raises_comes_after_what_it_gave() -> None:
    def broken() -> Iterator[bytes]:
        yield from numbered(3)
        raise LookupError("the disk is gone")

    with FakeService().client() as client:
        steps = client.classify_iter(broken())
        assert [next(steps)[0] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LookupError, match="the disk is gone"):
            next(steps)


def test_progress_counts_finished_images_and_failed_ones() -> None:
    counted: list[int] = []
    with refusing(b"1").client() as client:
        client.embed_many(numbered(5), progress=counted.append)
    assert counted == [1, 2, 3, 4, 5]


# What ends a run


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (problem(401), Unauthorized),
        (problem(404), ServiceError),
        (problem(412), EmbeddingMismatch),
        (problem(422, "Invalid parameter"), BadParameter),
        (by_proxy(503), ServiceUnavailable),
        (httpx.ConnectError("refused"), ServiceUnavailable),
    ],
    ids=["key", "address", "weights", "parameter", "overloaded", "unreachable"],
)
def test_what_concerns_all_images_ends_the_run(trouble: Answer, kind: type[ServiceError]) -> None:
    service = FakeService(lambda request, number: trouble)
    with service.client(concurrency=4, retries=1) as client, pytest.raises(kind):
        client.embed_many(iter(numbered(10_000)))
    assert len(service.requests) <= 8


def test_who_was_never_reached_is_given_up_after_the_timeout_of_one() -> None:
    service = FakeService(lambda request, number: httpx.ConnectError("refused"))
    with service.client(timeout=0.3, retry_for=3600) as client, pytest.raises(ServiceUnavailable):
        client.embed_many(numbered(100))


def test_an_image_that_alone_is_never_answered_is_an_error_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0.001)

    monkeypatch.setattr(wire, "sleep", sleep)
    service = FakeService(lambda request, number: httpx.ReadError("cut") if request.content == b"2" else None)
    with service.client(retries=20, concurrency=4) as client:
        outcomes = client.classify_many(numbered(100))
    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, ServiceError)] == [2]
    assert isinstance(outcomes[2], ServiceUnavailable)


# Leaving early


def test_a_run_that_is_left_early_asks_no_more() -> None:
    service = FakeService()
    service.held.update(numbered(100)[5:])
    images = Counted(100)
    with service.client(concurrency=4) as client:
        for key, _ in client.classify_iter(images):
            if key == 4:
                until(lambda: service.at_once == 4, timeout=30, what="four requests in flight", every=0.01)
                break
        until(lambda: service.at_once == 0, timeout=30, what="no request in flight", every=0.01)
        assert service.cancelled >= 1
        taken = images.taken
        assert taken <= 5 + 4
        assert index_of(client.classify(b"1")) == 1  # the client goes on
        assert images.taken == taken


def test_a_run_that_is_forgotten_ends() -> None:
    service = FakeService()
    service.held.update(numbered(100)[1:])
    with service.client(concurrency=4) as client:
        steps = client.classify_iter(numbered(100))
        next(steps)
        until(lambda: service.at_once == 4, timeout=30, what="four requests in flight", every=0.01)
        del steps
        gc.collect()
        until(lambda: service.at_once == 0, timeout=30, what="no request in flight", every=0.01)


def test_a_cancelled_run_cancels_its_requests() -> None:
    service = FakeService()
    service.held.update(numbered(100))

    async def run() -> None:
        async with service.async_client(concurrency=4) as client:
            many = asyncio.create_task(client.embed_many(numbered(100)))
            await eventually(lambda: service.at_once == 4)
            many.cancel()
            with pytest.raises(asyncio.CancelledError):
                await many
            assert service.cancelled == 4
            service.held.clear()
            assert isinstance(await client.embed(b"1"), Embedding)

    asyncio.run(run())
