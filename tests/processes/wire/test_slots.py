"""The memory that a worker shares with an engine: what is written into a slot is what the other side reads."""

from __future__ import annotations

import os

import numpy as np
import pytest

from service.model.outputs import ItemOutput
from service.processes.wire.slots import REQUEST_ID_BYTES, Layout, SlotMemory, SlotRequest
from tests.engine.remote import LAYOUT


def both_sides(layout: Layout) -> tuple[SlotMemory, SlotMemory]:
    """The worker's and the engine's."""
    memory, descriptor = SlotMemory.create(layout)
    other = SlotMemory(layout, descriptor)
    os.close(descriptor)
    return memory, other


def test_an_output_survives_the_slot_bit_for_bit() -> None:
    layout = Layout(8, 10, 16, 2, slots=3)
    memory, other = both_sides(layout)
    rng = np.random.default_rng(0)
    sent = ItemOutput(
        rng.normal(size=10).astype(np.float32),
        rng.normal(size=16).astype(np.float32),
        np.arange(5),
        rng.normal(size=(5, 2, 2)).astype(np.float32),
        1.25,
    )
    memory.write_outputs(1, sent)
    for part, expected in zip(other.read_outputs(1), sent, strict=True):
        np.testing.assert_array_equal(part, expected)
    assert not other.read_outputs(0).logits.any()
    assert not other.read_outputs(2).logits.any()


def test_slots_do_not_share_a_cache_line() -> None:
    record = LAYOUT.record
    assert record.itemsize % 64 == 0
    assert all(field[1] % 64 == 0 for field in (record.fields or {}).values())


def test_shared_memory_that_is_too_small_is_refused() -> None:
    _, descriptor = SlotMemory.create(LAYOUT)
    with pytest.raises(ValueError, match="smaller"):
        SlotMemory(Layout(8, 10, 16, 1, slots=LAYOUT.slots + 1), descriptor)
    os.close(descriptor)


def test_a_slot_holds_a_request_and_forgets_the_one_before() -> None:
    memory, other = both_sides(LAYOUT)
    longest = "x" * REQUEST_ID_BYTES
    asked = SlotRequest(f"{'m' * 64}/{'v' * 64}", [7, 0], "low", longest)
    memory.write_request(1, asked)
    assert other.read_request(1) == asked
    assert other.read_request(0).request_id == other.read_request(2).request_id == ""
    memory.write_request(1, SlotRequest("m/1", [], "normal", "ab"))
    assert other.read_request(1) == SlotRequest("m/1", [], "normal", "ab")


def test_another_process_cannot_make_a_slot_unreadable() -> None:
    memory, other = both_sides(LAYOUT)
    memory._request_ids[1], memory._models[1], memory._priorities[1] = b"\xff\n", b"\xff", 255
    assert other.read_request(1) == SlotRequest("\\xff", [0] * 5, "low", "\\xff\n")
