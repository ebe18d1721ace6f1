"""The long part of ``tests/e2e/test_lifecycle.py``: a drain under load, again and again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.model.artifact import Artifact
from tests.e2e.load import Load
from tests.e2e.process import server
from tests.photos import Photo


@pytest.mark.torture
def test_sigterm_under_load_ten_times(
    real_artifact: Artifact, photos: list[Photo], record_figure: Callable[[str, str], None]
) -> None:
    lost: set[str] = set()
    taken = 0
    for run in range(10):
        with server() as running:
            load = Load(running.url, photos[run].data)
            load.run_until_terminated(running, after=100 + 37 * run)
        lost |= {f"{run}/{request_id}" for request_id in [*load.lost(running), *load.refused]}
        taken += len(load.answered) + len(load.refused)
    record_figure("requests lost on SIGTERM", f"{len(lost)} of {taken}")
    assert lost == set()
