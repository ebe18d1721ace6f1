"""The batcher alone: what its model says of one thread, and what several threads make of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from service.engine.batcher import Batch, Batcher, Item
from tests.engine.batcher_model import BatcherMachine, item, marker_of


def markers(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [marker_of(entry) for entry in batch.items]


def nothing_dropped(dropped: Item) -> None:
    raise AssertionError(f"item {marker_of(dropped)} must not be dropped")


def test_the_batcher_does_what_its_model_does() -> None:
    profile = settings(max_examples=150, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(BatcherMachine, settings=profile)


def test_idle_runners_share_what_is_queued() -> None:
    batcher = Batcher(8, on_dropped=nothing_dropped)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(batcher.take) for _ in range(2)]
        while batcher._idle < 2:  # both runners wait inside take()
            pass
        with batcher._changed:  # both items are there before either runner wakes
            batcher.put(item(0))
            batcher.put(item(1))
        assert sorted(markers(future.result(10)) for future in waiting) == [[0], [1]]


def test_a_waiting_runner_takes_company_that_arrives_within_the_delay() -> None:
    batcher = Batcher(2, on_dropped=nothing_dropped, max_queue_delay=1000.0)
    batcher.put(item(0))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(batcher.take)
        batcher.put(item(1))
        assert markers(waiting.result(10)) == [0, 1]


def test_close_wakes_a_waiting_runner() -> None:
    batcher = Batcher(8, on_dropped=nothing_dropped)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(batcher.take)
        batcher.close()
        assert waiting.result(10) is None


def test_many_producers_and_runners_lose_and_repeat_nothing() -> None:
    batcher = Batcher(7, on_dropped=nothing_dropped, max_queue_delay=0.0005)
    taken: list[int] = []

    def run() -> None:
        while (batch := batcher.take()) is not None:
            taken.extend(markers(batch))
            batcher.done(batch)

    def produce(first: int) -> None:
        for marker in range(first, first + 500):
            batcher.put(item(marker))

    runners = [threading.Thread(target=run) for _ in range(4)]
    producers = [threading.Thread(target=produce, args=(first,)) for first in (0, 500, 1000, 1500)]
    for thread in runners + producers:
        thread.start()
    for thread in producers:
        thread.join()
    batcher.close()
    for thread in runners:
        thread.join()
    assert sorted(taken) == list(range(2000))
