"""The numbers of connections that workers share."""

from __future__ import annotations

import os

from service.processes.shared_listener import ConnectionCounts


def test_the_fewest_are_those_of_a_worker_that_is_there() -> None:
    counts = ConnectionCounts.create(3)
    other = ConnectionCounts(os.dup(counts.descriptor), 3)  # as another process maps it
    counts.set(0, 5)
    assert other.fewest() == 5, "nobody is in the other places"
    other.set(2, 3)
    assert counts.fewest() == 3
    counts.clear(2)
    assert other.fewest() == 5
