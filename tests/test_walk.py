"""One image touches few files, crosses threads twice and never calls upwards: ``python -m tests.walk``."""

from __future__ import annotations

from pathlib import Path

from tests import walk
from tests.artifacts import make_artifact


def test_the_way_of_one_image_is_short_and_points_down(tmp_path: Path) -> None:
    way = walk.trace(make_artifact(tmp_path, crop_size=224))
    assert len(way.files) <= 23, way.files
    assert len(way.calls) <= 140
    assert way.crossings == 2
    assert way.upward == []
    assert {"http/endpoints.py", "serving/intake.py", "engine/batcher.py", "engine/runner.py"} < set(way.files)
