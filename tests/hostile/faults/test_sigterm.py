"""The long part of ``tests/e2e/test_lifecycle.py``: a drain under load, again and again."""

from __future__ import annotations

import pytest

from service.model.artifact import Artifact
from tests import photos
from tests.e2e.load import Load
from tests.e2e.process import server
from tests.hostile.conftest import RecordFigure


@pytest.mark.torture
def test_sigterm_under_load_ten_times(real_artifact: Artifact, record_figure: RecordFigure) -> None:
    lost: set[str] = set()
    taken = 0
    for run, photo in enumerate(photos.load()[:10]):
        with server() as running:
            load = Load(running.url, photo.data)
            load.run_until_terminated(running, after=100 + 37 * run)
        lost |= {f"{run}/{request_id}" for request_id in [*load.lost(running), *load.refused]}
        taken += len(load.answered) + len(load.refused)
    record_figure("requests lost on SIGTERM", f"{len(lost)} of {taken}")
    assert lost == set()
