"""The batcher alone: order, shares, deadlines, cancellation, closing; and nothing lost under any interleaving."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from service.engine.batcher import Batch, Batcher, Closed, Item
from tests.engine.batcher_model import BatcherMachine, item, marker_of
from tests.waiting import Clock


def items_of(work: Batch | None) -> list[Item]:
    assert isinstance(work, Batch)
    return work.items


def markers(work: Batch | None) -> list[int]:
    return [marker_of(entry) for entry in items_of(work)]


def nothing_dropped(dropped: Item) -> None:
    raise AssertionError(f"item {marker_of(dropped)} must not be dropped")


def test_a_lone_runner_takes_all_that_is_queued_in_order_up_to_the_limit() -> None:
    batcher = Batcher(3, on_dropped=nothing_dropped)
    for marker in range(5):
        batcher.put(item(marker))
    assert markers(batcher.take()) == [0, 1, 2]
    assert markers(batcher.take()) == [3, 4]
    assert len(batcher) == 0


def test_low_priority_fills_a_batch_only_when_nothing_else_waits() -> None:
    batcher = Batcher(2, on_dropped=nothing_dropped)
    for marker in range(6):
        batcher.put(item(marker, priority="normal" if marker % 2 else "low"))
    assert [markers(batcher.take()) for _ in range(3)] == [[1, 3], [5, 0], [2, 4]]


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


def test_expired_and_cancelled_items_are_reported_and_not_handed_out() -> None:
    clock = Clock()
    dropped: list[Item] = []
    batcher = Batcher(8, on_dropped=dropped.append, clock=clock)
    late, cancelled, good = item(0, deadline=1.0), item(1), item(2, deadline=3.0)
    for entry in (late, cancelled, good):
        batcher.put(entry)
    cancelled.cancelled = True
    clock.now = 2.0
    assert items_of(batcher.take()) == [good]
    assert dropped == [late, cancelled]


def test_without_a_delay_a_lone_item_leaves_at_once() -> None:
    batcher = Batcher(8, on_dropped=nothing_dropped)
    batcher.put(item(0))
    assert markers(batcher.take()) == [0]


def test_a_delay_is_counted_from_the_oldest_item() -> None:
    clock = Clock()
    batcher = Batcher(8, on_dropped=nothing_dropped, max_queue_delay=1.0, clock=clock)
    batcher.put(item(0))
    clock.now = 0.9
    batcher.put(item(1))
    clock.now = 1.0  # the first has waited its second, the other a tenth
    assert markers(batcher.take()) == [0, 1]


def test_a_full_batch_does_not_wait_for_the_delay() -> None:
    batcher = Batcher(2, on_dropped=nothing_dropped, max_queue_delay=1000.0)
    batcher.put(item(0))
    batcher.put(item(1))
    assert markers(batcher.take()) == [0, 1]


def test_a_waiting_runner_takes_company_that_arrives_within_the_delay() -> None:
    batcher = Batcher(2, on_dropped=nothing_dropped, max_queue_delay=1000.0)
    batcher.put(item(0))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(batcher.take)
        batcher.put(item(1))
        assert markers(waiting.result(10)) == [0, 1]


def test_close_hands_out_the_rest_then_none_and_refuses_more() -> None:
    batcher = Batcher(8, on_dropped=nothing_dropped, max_queue_delay=1000.0)
    batcher.put(item(0))
    batcher.close()
    assert markers(batcher.take()) == [0]
    assert batcher.take() is None
    with pytest.raises(Closed):
        batcher.put(item(1))


def test_close_wakes_a_waiting_runner() -> None:
    batcher = Batcher(8, on_dropped=nothing_dropped)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(batcher.take)
        batcher.close()
        assert waiting.result(10) is None


def test_abandon_returns_what_was_queued() -> None:
    batcher = Batcher(8, on_dropped=nothing_dropped)
    batcher.put(item(0))
    assert [marker_of(entry) for entry in batcher.abandon()] == [0]
    assert batcher.take() is None


def test_a_batch_knows_whether_it_is_alone() -> None:
    batcher = Batcher(1, on_dropped=nothing_dropped)

    def alone() -> bool:
        batch = batcher.take()
        assert isinstance(batch, Batch)
        return batch.alone

    batcher.put(item(0))
    batcher.put(item(1))
    assert not alone(), "another item is queued"
    assert not alone(), "another runner is at work"
    batcher.done()
    batcher.done()
    batcher.put(item(2))
    assert alone()
    batcher.done()


def test_what_was_dropped_is_not_work_at_hand() -> None:
    clock = Clock()
    batcher = Batcher(1, on_dropped=lambda expired: None, clock=clock)
    batcher.put(item(0, deadline=0.0))
    batcher.put(item(1))
    batch = batcher.take()
    assert isinstance(batch, Batch)
    assert batch.alone


def test_the_batcher_does_what_its_model_does() -> None:
    profile = settings(max_examples=150, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(BatcherMachine, settings=profile)


def test_many_producers_and_runners_lose_and_repeat_nothing() -> None:
    batcher = Batcher(7, on_dropped=nothing_dropped, max_queue_delay=0.0005)
    taken: list[list[Item]] = [[] for _ in range(4)]

    def run(into: list[Item]) -> None:
        while (batch := batcher.take()) is not None:
            into.extend(items_of(batch))
            batcher.done()

    def produce(first: int) -> None:
        for marker in range(first, first + 500):
            batcher.put(item(marker))

    runners = [threading.Thread(target=run, args=(into,)) for into in taken]
    producers = [threading.Thread(target=produce, args=(first,)) for first in (0, 500, 1000, 1500)]
    for thread in runners + producers:
        thread.start()
    for thread in producers:
        thread.join()
    batcher.close()
    for thread in runners:
        thread.join()
    assert sorted(marker_of(entry) for into in taken for entry in into) == list(range(2000))
