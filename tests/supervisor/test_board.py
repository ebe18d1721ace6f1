"""The numbers of connections that workers share."""

from __future__ import annotations

import os

from service.supervisor.board import Board


def test_the_fewest_are_those_of_a_worker_that_is_there() -> None:
    board = Board.create(3)
    other = Board(os.dup(board.descriptor), 3)  # as another process maps it
    board.tell(0, 5)
    assert other.fewest() == 5, "nobody is in the other places"
    other.tell(2, 3)
    assert board.fewest() == 3
    board.leave(2)
    assert other.fewest() == 5
