"""More arrives than can be done: what is taken is answered in time, the rest is told at once when to come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import numpy as np
import pytest
import uvloop

from benchmarks import load, photos
from benchmarks.processes import tree_memory
from service.serving.memory_limits import USUAL_IN_FLIGHT
from tests.e2e.process import ServerProcess, server
from tests.hostile.conftest import RecordFigure
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("real_artifact")]

BODIES = photos.collection("500x375", 8)
TIMES_CAPACITY = 3.0
#: Answers may outlast the queue's own length by what the estimate of capacity is off and the last images take.
QUEUE_SLACK = 1.5
#: Of the short floods, each of whose connections asks again as soon as it is answered: with fewer places than
#: connections some are refused however fast the machine is, and whatever else it does. The usual queue may never fill
#: on a slow machine.
FEW = ("--max-in-flight", "32")


@contextmanager
def serving(*limits: str) -> Iterator[ServerProcess]:
    """A server that afterwards has nothing in flight, classifies as before, and ends cleanly."""
    with server("--no-access-log", *limits) as running:
        yield running
        with running.client() as client:
            until(
                lambda: "mobilenet_in_flight 0.0" in client.get("/metrics").text, timeout=30, what="nothing in flight"
            )
            assert client.get("/readyz").status_code == 200
            assert client.post("/classify", content=BODIES[0]).status_code == 200
        assert running.terminate() == 0


class Flood(NamedTuple):
    capacity: float  # answers a second at 32 connections, mean of just before and just after
    sample: load.Sample
    memory: tuple[float, float]  # MiB before and after
    ready_after: float  # seconds from the last answer to readiness


async def flood(running: ServerProcess, seconds: float, headers: str = "") -> Flood:
    url = running.url
    plain = load.requests(url, "/classify", BODIES)
    await load.closed_loop(url, plain, concurrency=32, seconds=1.0)
    capacity = (await load.closed_loop(url, plain, concurrency=32, seconds=10.0)).rate
    # Once through the flood before memory is counted: the queue it fills is allowed, and fills only once.
    prepared = load.requests(url, "/classify", BODIES, headers=headers)
    await load.open_loop(url, prepared, rate=TIMES_CAPACITY * capacity, seconds=1.0)
    before = tree_memory(running.process.pid)
    sample = await load.open_loop(url, prepared, rate=TIMES_CAPACITY * capacity, seconds=seconds)
    ended = time.monotonic()
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/readyz")).status_code == 200
        ready_after = time.monotonic() - ended
    # Again after it: a minute is long enough for a shared machine to change its speed.
    capacity = (capacity + (await load.closed_loop(url, plain, concurrency=32, seconds=10.0)).rate) / 2
    return Flood(capacity, sample, (before, tree_memory(running.process.pid)), ready_after)


def check_refusals(sample: load.Sample) -> None:
    assert set(sample.statuses) == {200, 503}, "what was taken was answered in time, all else refused at the door"
    assert all(value is not None and 1 <= int(value) <= 30 for value in sample.retry_after)


def test_a_flood_is_answered_or_refused_at_once() -> None:
    with serving(*FEW) as running:
        prepared = load.requests(running.url, "/classify", BODIES)
        check_refusals(uvloop.run(load.closed_loop(running.url, prepared, concurrency=96, seconds=2.0)))


@pytest.mark.torture
def test_a_minute_at_three_times_capacity(record_figure: RecordFigure) -> None:
    with serving() as running:
        result = uvloop.run(flood(running, 60.0))
    sample = result.sample
    check_refusals(sample)
    goodput = sample.rate / result.capacity
    refused = np.percentile(sample.refusals, [50, 99, 100]) * 1e3
    allowed = USUAL_IN_FLIGHT / sample.rate
    p99 = sample.percentile(99)
    rates = f"{sample.rate:.0f} of {result.capacity:.0f}/s"
    record_figure("goodput at 3x overload over capacity", f"{goodput:.3f} ({rates})")
    refusals = f"{len(sample.refusals)}, p50 {refused[0]:.1f} ms, p99 {refused[1]:.1f} ms"
    record_figure("refusals at 3x overload", refusals)
    record_figure("p99 of the accepted at 3x overload", f"{p99:.2f} s, the queue allowed is {allowed:.2f} s")
    record_figure("memory over a minute of overload", f"{result.memory[0]:.0f} to {result.memory[1]:.0f} MiB")
    record_figure("ready after overload", f"{result.ready_after * 1e3:.0f} ms")
    assert goodput >= 0.9
    assert refused[1] < 50
    assert p99 < QUEUE_SLACK * allowed
    assert result.memory[1] - result.memory[0] < 20
    assert result.ready_after < 2


@pytest.mark.torture
def test_short_deadlines_are_refused_at_the_door(record_figure: RecordFigure) -> None:
    """A quarter of a second is less than the queue that the limit allows: the estimate must do what it does."""
    with serving() as running:
        statuses = uvloop.run(flood(running, 15.0, "X-Request-Timeout-Ms: 250\r\n")).sample.statuses
    found = f"{statuses[200]} in time, {statuses[503]} refused, {statuses[504]} late"
    record_figure("250 ms deadlines at 3x overload", found)
    assert set(statuses) <= {200, 503, 504}
    assert statuses[200] > 0
    assert statuses[504] < 0.01 * statuses[200]


async def hundred_against_one(url: str) -> tuple[load.Sample, load.Sample]:
    prepared = load.requests(url, "/classify", BODIES)
    greedy, modest = await asyncio.gather(
        load.closed_loop(url, prepared, concurrency=100, seconds=2.0, source="127.0.0.1"),
        load.closed_loop(url, prepared, concurrency=1, seconds=2.0, source="127.0.0.2"),
    )
    return greedy, modest


@pytest.mark.parametrize("share", ["0.5", "1"])
def test_a_hundred_connections_do_not_starve_one(share: str) -> None:
    with serving(*FEW, "--max-client-share", share) as running:
        greedy, modest = uvloop.run(hundred_against_one(running.url))
    assert greedy.statuses[200] > 0
    if share == "1":  # no shares: the hundred take every place as it comes free
        check_refusals(greedy)
        assert modest.statuses[503] > modest.statuses[200]
    else:
        assert set(greedy.statuses) == {200, 429}
        assert set(modest.statuses) == {200}
