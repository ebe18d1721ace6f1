"""The client without asyncio: threads share it, and closing it leaves nobody waiting."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fake_service import FakeService, numbered
from mobilenet_client import AsyncClient, Client, ClientError, Embedding
from tests.waiting import until


def test_threads_share_a_client_and_its_bound() -> None:
    service = FakeService()
    service.delay = 0.001
    with service.client(concurrency=3) as client:

        def work(thread: int) -> list[float]:
            bodies = [b"%d" % (100 * thread + number) for number in range(10)]
            ones = [float(client.embed(body).vector[0]) for body in bodies]
            return [*ones, *map(float, client.embed_many(bodies).vectors[:, 0])]

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(8)))
    assert found == [[100 * thread + number for number in range(10)] * 2 for thread in range(8)]
    assert service.most_at_once == 3


def test_it_works_inside_a_running_event_loop() -> None:
    async def run() -> list[int]:
        with FakeService().client() as client:
            return [key for key, _ in client.embed_iter(numbered(3))]

    assert asyncio.run(run()) == [0, 1, 2]


def test_closing_ends_the_calls_of_other_threads() -> None:
    service = FakeService()
    service.held.update(numbered(10))
    client = service.client(concurrency=4)
    with ThreadPoolExecutor(2) as pool:
        one, many = pool.submit(client.embed, b"0"), pool.submit(client.embed_many, numbered(10))
        until(lambda: service.at_once == 4, timeout=30, what="four requests in flight", every=0.01)
        client.close()
        for call in (one, many):
            with pytest.raises(ClientError, match="closed meanwhile"):
                call.result(30)
    assert service.at_once == 0


def test_a_closed_client_says_so() -> None:
    client = FakeService().client()
    steps = client.embed_iter(numbered(100))
    next(steps)
    client.close()
    client.close()
    with pytest.raises(ClientError, match="closed"):
        next(steps)
    with pytest.raises(ClientError, match="closed"):
        client.classify(b"7")
    steps.close()


def test_a_call_from_the_clients_own_thread_does_not_hang() -> None:
    with FakeService().client() as client, pytest.raises(ClientError, match="its own thread"):
        client.embed_many(numbered(3), progress=lambda done: client.embed(b"7"))


def test_closing_leaves_no_thread() -> None:
    before = threading.active_count()
    with FakeService().client() as client:
        client.embed_many(iter(numbered(100)))
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_its_methods_are_those_of_the_asynchronous_client() -> None:
    def public(client: type) -> set[str]:
        return {name for name in dir(client) if not name.startswith("_")}

    assert public(Client) - {"close"} == public(AsyncClient) - {"aclose"}
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


def test_the_same_methods_may_be_awaited() -> None:
    async def run() -> tuple[Embedding, list[int]]:
        async with FakeService().async_client() as client:
            return await client.embed(b"7"), [key async for key, _ in client.classify_iter(numbered(3))]

    embedding, keys = asyncio.run(run())
    assert (embedding.vector.tolist(), keys) == ([7, 7], [0, 1, 2])
