"""The example for Ray on a real local cluster of two actors: killed, and run again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from service.model.artifact import Artifact
from tests.documents import ROOT
from tests.image.samples import encode, noise
from tests.waiting import until

pytestmark = [
    pytest.mark.extra,
    pytest.mark.torture,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: make torture does that"),
]

PHOTOS = 3000


def tables(folder: Path) -> list[Any]:
    """Those that are complete: Ray writes them in place, so a kill may leave a part of one."""
    import pyarrow
    from pyarrow import parquet

    found = []
    for file in folder.rglob("*.parquet"):
        with contextlib.suppress(pyarrow.ArrowInvalid, FileNotFoundError):
            found.append(parquet.read_table(file))
    return found


def test_killed_and_run_again_it_has_every_photo(
    real_artifact: Artifact, tmp_path: Path, report: Callable[[str], None]
) -> None:
    photos, vectors = tmp_path / "photos", tmp_path / "vectors"
    photos.mkdir()
    for number in range(PHOTOS):
        (photos / f"{number:04}.png").write_bytes(encode(noise(60, 40, seed=number), "PNG"))
    (photos / "0007.png").write_bytes(b"no image")
    program = [sys.executable, str(ROOT / "examples" / "ray" / "embed.py"), str(photos), str(vectors)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}

    first = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: bool(tables(vectors)) or first.poll() is not None, timeout=600, what="the first rows")
    first.send_signal(signal.SIGKILL)
    first.wait(30)
    before = sum(table.num_rows for table in tables(vectors))
    subprocess.run(program, env=environment, check=True, timeout=900, capture_output=True)

    written = tables(vectors)
    rows = [row for table in written for row in table.select(["path", "error"]).to_pylist()]
    bad = {Path(row["path"]).name for row in rows if row["error"]}
    paths = Counter(row["path"] for row in rows)
    report(f"ray: {before} rows before the kill, {paths.total()} rows at the end, {len(paths)} different")
    assert {Path(path).name for path in paths} == {path.name for path in photos.iterdir()}
    assert bad == {"0007.png"}
    expected = real_artifact.embedding_id("fp32", "openvino", "exact", unit_length=True).encode()
    assert {table.schema.metadata[b"embedding_id"] for table in written} == {expected}
