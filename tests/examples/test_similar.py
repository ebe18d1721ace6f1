"""The examples of similarity search find what NumPy finds, and keep vectors of two models apart."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.http.encode import EMBEDDING_ID
from tests.artifacts import make_artifact
from tests.documents import ROOT
from tests.e2e.process import ServerProcess, server
from tests.image.samples import encode, noise

SIMILAR = ROOT / "examples" / "similar"
DIM = 1280
OURS, OTHER = "mobilenet_v2/1;fp32;exact;n1;fef8007620f5f2d1", "mobilenet_v2/2;fp32;exact;n1;0123456789abcdef"


def run(program: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)


def unit_vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    """In groups of ten that are alike: as photos are, and unlike pure noise, in which all are equally far apart."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(-(-count // 10), DIM)).astype(np.float32).repeat(10, axis=0)[:count]
    vectors = centres + 0.5 * rng.normal(size=(count, DIM)).astype(np.float32)
    normalised: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalised


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        (folder / f"{number}.png").write_bytes(encode(noise(80, 60, seed=number), "PNG"))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that select a small model with vectors of the usual length."""
    store = tmp_path_factory.mktemp("store")
    assert make_artifact(store, name="tiny").network.embedding_dim == DIM
    return ["--model-store", str(store), "--model", "tiny"]


@pytest.fixture(scope="module")
def service(tiny: list[str]) -> Iterator[ServerProcess]:
    with server(*tiny) as running:
        yield running


@pytest.mark.slow
def test_a_folder_in_two_commands(photos: Path, tiny: list[str], service: ServerProcess, tmp_path: Path) -> None:
    matrix, elsewhere = tmp_path / "vectors.npy", tmp_path / "elsewhere.png"
    shutil.copy(photos / "3.png", elsewhere)
    command = [sys.executable, "-m", "service", "embed", str(photos), "--out", str(matrix), *tiny]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    found = run(SIMILAR / "folder.py", matrix, photos / "3.png")
    assert found.returncode == 0, found.stderr
    scores = [float(line.split()[0]) for line in found.stdout.splitlines()]
    assert len(scores) == 7
    assert scores == sorted(scores, reverse=True)
    found = run(SIMILAR / "folder.py", matrix, elsewhere, SERVICE_URL=service.url)
    assert found.stdout.splitlines()[0] == f"1.000  {photos / '3.png'}", found.stderr

    side = json.loads(matrix.with_suffix(".json").read_text())
    matrix.with_suffix(".json").write_text(json.dumps(side | {"embedding_id": OTHER}))
    refused = run(SIMILAR / "folder.py", matrix, elsewhere, SERVICE_URL=service.url)
    assert refused.returncode == 1
    assert "the request asks for those of mobilenet_v2/2" in refused.stderr
    assert "Traceback" not in refused.stderr


def write_parquet(folder: Path, vectors: NDArray[np.float32], embedding_id: str) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir()
    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    paths = [f"p/{number}.jpg" for number in range(len(vectors))]
    errors = pa.nulls(len(vectors), pa.string())
    table = pa.table({"path": paths, "embedding": embeddings, "error": errors}, metadata={"embedding_id": embedding_id})
    bad = (
        table.slice(0, 1).set_column(1, "embedding", pa.nulls(1, embeddings.type)).set_column(0, "path", [["bad.jpg"]])
    )
    parquet.write_table(pa.concat_tables([table, bad]), folder / "part-00000.parquet")
    return folder


def fill(database: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(SIMILAR / "pgvector" / "load.py", folder, DATABASE_URL=database)


@pytest.fixture
def connection(database: str) -> Iterator[Any]:
    import psycopg
    from pgvector.psycopg import register_vector

    with psycopg.connect(database, autocommit=True) as connected:
        connected.execute("DROP TABLE IF EXISTS photo, embedding_space")
        connected.execute((SIMILAR / "pgvector" / "schema.sql").read_text())
        register_vector(connected)
        yield connected


@pytest.mark.extra
@pytest.mark.slow
def test_the_database_takes_vectors_of_one_model_only(database: str, connection: Any, tmp_path: Path) -> None:
    import psycopg

    vectors = unit_vectors(240)
    mine = write_parquet(tmp_path / "mine", vectors, OURS)
    for _ in range(2):  # loading again replaces
        loaded = fill(database, mine)
        assert (loaded.returncode, loaded.stdout) == (0, "240 vectors\n"), loaded.stderr
    refused = fill(database, write_parquet(tmp_path / "other", unit_vectors(20, seed=1), OTHER))
    assert refused.returncode == 1
    assert "vectors of another model" in refused.stderr
    assert "Traceback" not in refused.stderr
    for statement in (
        f"INSERT INTO photo SELECT 'x', '{OTHER}', embedding FROM photo LIMIT 1",
        f"UPDATE photo SET embedding_id = '{OTHER}'",
        f"INSERT INTO embedding_space VALUES (true, '{OTHER}')",
        f"INSERT INTO embedding_space VALUES (false, '{OTHER}')",
        f"UPDATE embedding_space SET embedding_id = '{OTHER}'",
        "DELETE FROM embedding_space",
    ):
        with pytest.raises(psycopg.errors.IntegrityError):
            connection.execute(statement)
    assert connection.execute("SELECT count(*), count(DISTINCT embedding_id) FROM photo").fetchone() == (240, 1)


@pytest.mark.extra
@pytest.mark.slow
def test_a_photo_finds_itself_over_http(
    database: str, connection: Any, photos: Path, service: ServerProcess, tmp_path: Path
) -> None:
    headers = {"Accept": "application/octet-stream"}
    answers = [
        httpx.post(f"{service.url}/embed", content=photo.read_bytes(), headers=headers)
        for photo in sorted(photos.iterdir())
    ]
    vectors = np.stack([np.frombuffer(answer.content, "<f4") for answer in answers])
    write_parquet(tmp_path / "mine", vectors, answers[0].headers[EMBEDDING_ID])
    assert fill(database, tmp_path / "mine").returncode == 0
    program = SIMILAR / "pgvector" / "search.py"
    found = run(program, photos / "5.png", DATABASE_URL=database, SERVICE_URL=service.url)
    assert found.stdout.splitlines()[0] == "1.000  p/5.jpg", found.stderr
    connection.execute("DELETE FROM photo")
    connection.execute("UPDATE embedding_space SET embedding_id = %s", [OTHER])
    refused = run(program, photos / "5.png", DATABASE_URL=database, SERVICE_URL=service.url)
    assert refused.returncode == 1
    assert "the request asks for those of mobilenet_v2/2" in refused.stderr


@pytest.mark.extra
@pytest.mark.torture
@pytest.mark.timeout(1200)
def test_a_hundred_thousand_are_searched_well_and_fast(
    database: str, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Callable[[str], None]
) -> None:
    from pgvector import Vector

    monkeypatch.syspath_prepend(SIMILAR / "pgvector")
    search = import_module("search")

    vectors = unit_vectors(100_000)
    folder = write_parquet(tmp_path / "mine", vectors, OURS)
    started = time.monotonic()
    command = [sys.executable, str(SIMILAR / "pgvector" / "load.py"), str(folder)]
    subprocess.run(command, env={"DATABASE_URL": database}, check=True, timeout=1000, capture_output=True)
    loaded = time.monotonic() - started
    recalls, seconds, rows = [], [], range(0, 100_000, 1000)
    # Beforehand: half a gigabyte of products would push the index out of the caches before each query.
    nearest = [np.argsort(-(vectors @ vectors[row]))[:10] for row in rows]
    for row, others in zip(rows, nearest, strict=True):
        exact = {f"p/{other}.jpg" for other in others}
        started = time.monotonic()
        found = search.neighbours(connection, Vector(vectors[row]))
        seconds.append(time.monotonic() - started)
        recalls.append(len(exact & {path for path, _ in found}) / 10)
    report(
        f"pgvector: loaded in {loaded:.0f} s, recall@10 {np.mean(recalls):.3f}, query {np.median(seconds) * 1e3:.1f} ms"
    )
    assert np.mean(recalls) >= 0.95
    assert np.median(seconds) <= 0.010
