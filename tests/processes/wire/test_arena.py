"""The memory that a worker shares with an engine: what is written into a slot is what the other side reads."""

from __future__ import annotations

import numpy as np
import pytest

from service.model.outputs import ItemOutput
from service.processes.wire.slots import REQUEST_ID_BYTES, Arena, Layout
from tests.engine.remote import LAYOUT


def test_an_output_survives_the_slot_bit_for_bit() -> None:
    layout = Layout(8, 10, 16, 2, slots=3)
    arena, descriptor = Arena.create(layout)
    other = Arena(layout, descriptor)
    rng = np.random.default_rng(0)
    sent = ItemOutput(
        rng.normal(size=10).astype(np.float32),
        rng.normal(size=16).astype(np.float32),
        np.arange(5),
        rng.normal(size=(5, 2, 2)).astype(np.float32),
        1.25,
    )
    arena.write(1, sent)
    for part, expected in zip(other.read(1), sent, strict=True):
        np.testing.assert_array_equal(part, expected)
    assert not other.read(0).logits.any()
    assert not other.read(2).logits.any()


def test_slots_do_not_share_a_cache_line() -> None:
    record = LAYOUT.record
    assert record.itemsize % 64 == 0
    assert all(field[1] % 64 == 0 for field in (record.fields or {}).values())


def test_shared_memory_that_is_too_small_is_refused() -> None:
    _, descriptor = Arena.create(LAYOUT)
    with pytest.raises(ValueError, match="smaller"):
        Arena(Layout(8, 10, 16, 1, slots=LAYOUT.slots + 1), descriptor)


def test_a_slot_holds_an_id_and_forgets_the_one_before() -> None:
    arena, descriptor = Arena.create(LAYOUT)
    other = Arena(LAYOUT, descriptor)
    longest = "x" * REQUEST_ID_BYTES
    arena.ask(1, longest, [7, 0])
    assert other.asked(1) == (longest, [7, 0])
    assert other.asked(0)[0] == other.asked(2)[0] == ""
    arena.ask(1, "ab", [])
    assert other.asked(1) == ("ab", [])
    arena._request_ids[1] = b"\xff\n"
    assert other.asked(1)[0] == "\\xff\n"
