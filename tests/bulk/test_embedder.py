"""``Embedder`` and ``Classifier``: tables as Ray and Spark want them, in this process and in another."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bulk import embedder
from service.bulk.embedder import Classifier, Embedder
from service.errors import ArtifactError, MissingExtra
from service.model.artifact import load
from tests.bulk.conftest import DIM, run
from tests.running import png

pytestmark = pytest.mark.extra

#: Of one colour.
UNIFORM = "the image is one colour all over, or wholly transparent"


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    """The engines end with the tests."""
    yield
    for engine in list(embedder._engines.values()):
        engine.close()
    embedder._engines.clear()


def photos(count: int) -> tuple[list[str], list[bytes]]:
    return [f"{index}.png" for index in range(count)], [png(index, 32) for index in range(count)]


def test_vectors_are_those_of_the_command(store: Path, tmp_path: Path) -> None:
    ids, blobs = photos(7)
    for name, blob in zip(ids, blobs, strict=True):
        (tmp_path / name).write_bytes(blob)
    out = tmp_path / "out.npy"
    done = run("embed", *(tmp_path / name for name in ids), "--out", out, "--model-store", store, "--model", "tiny")
    assert done.exit_code == 0, done.output
    embed = Embedder("tiny/1", store=store)
    table = embed.table(ids, blobs)
    assert table.schema.equals(embed.schema, check_metadata=True)
    assert np.array_equal(np.array(table["embedding"].to_pylist(), np.float32), np.load(out))
    assert embed.embedding_id == json.loads(out.with_suffix(".json").read_bytes())["embedding_id"]


def test_the_schema_says_what_made_the_vectors(store: Path) -> None:
    import pyarrow as pa

    schema = Embedder("tiny/1", store=store, normalize=False).schema
    assert [(field.name, field.type) for field in schema] == [
        ("path", pa.string()),
        ("embedding", pa.list_(pa.float32(), DIM)),
        ("warnings", pa.list_(pa.string())),
        ("error", pa.string()),
    ]
    identity = load(store, "tiny", "1").embedding_id("fp32", "openvino", "exact", unit_length=False)
    assert schema.metadata == {b"model": b"tiny/1", b"embedding_id": identity.encode()}
    assert Embedder("tiny/1", store=store).embedding_id != identity
    assert Embedder("tiny/1", store=store, decode="fast").embedding_id != identity


def test_a_photos_fault_is_its_rows_error(store: Path) -> None:
    blobs = [png(1, 32), b"text", None, b"", png(1, 32)[:50], png(2, 2000), memoryview(png(3, 32))]
    table = Embedder("tiny/1", store=store, max_pixels=10_000).table([str(index) for index in range(7)], blobs)
    errors = table["error"].to_pylist()
    assert [error is None for error in errors] == [True, False, False, False, False, False, True]
    assert errors[1:4] == ["this is text; send an image", "the image is empty", "the image is empty"]
    assert "pixels" in errors[5]
    assert [value is None for value in table["embedding"].to_pylist()] == [error is not None for error in errors]


def test_warnings_stand_in_their_row(store: Path) -> None:
    from PIL import Image

    from tests.image.samples import encode

    table = Embedder("tiny/1", store=store).table(["a", "b"], [encode(Image.new("RGB", (9, 9)), "PNG"), png(1, 32)])
    assert table["warnings"].to_pylist() == [[UNIFORM], []]


def test_classes_and_probabilities(store: Path) -> None:
    ids, blobs = photos(2)
    classify = Classifier("tiny/1", store=store, top_k=3)
    table = classify.table([*ids, "bad"], [*blobs, b"bad"])
    assert table.schema.equals(classify.schema, check_metadata=True)
    first, _, bad = table.to_pylist()
    assert first["labels"] == [f"class {index}" for index in first["indices"]]
    assert first["probabilities"] == sorted(first["probabilities"], reverse=True)
    assert len(first["labels"]) == 3
    assert bad["labels"] is bad["indices"] is bad["probabilities"] is None
    assert bad["error"] == "this is text; send an image"


@pytest.mark.parametrize("form", ["arrays", "table", "spark"])
def test_a_batch_is_what_ray_and_spark_give(store: Path, form: str) -> None:
    import pyarrow as pa

    ids, blobs = photos(3)
    batch: Any = {"path": np.array(ids, object), "bytes": np.array(blobs, object)}
    if form != "arrays":
        batch = pa.table({"content" if form == "spark" else "bytes": blobs, "path": ids, "length": [1, 2, 3]})
    table = Embedder("tiny/1", store=store)(batch)
    assert table["path"].to_pylist() == ids
    assert table["embedding"].null_count == 0


def test_an_empty_batch_is_an_empty_table(store: Path) -> None:
    for made in (Embedder("tiny/1", store=store), Classifier("tiny/1", store=store)):
        table = made({"path": [], "bytes": []})
        assert table.num_rows == 0
        assert table.schema == made.schema


def test_sparks_batches_have_plain_lists(store: Path) -> None:
    import pyarrow as pa

    ids, blobs = photos(3)
    given = pa.table({"path": [*ids, "bad"], "content": [*blobs, b"bad"]})
    embed = Embedder("tiny/1", store=store)
    batches = list(embed.arrow_batches(given.to_batches(max_chunksize=2)))
    assert [batch.num_rows for batch in batches] == [2, 2]
    assert batches[0].schema.field("embedding").type == pa.list_(pa.float32())
    assert batches[1].column("embedding").to_pylist()[1] is None
    expected = embed(given)["embedding"].to_pylist()
    assert pa.Table.from_batches(batches)["embedding"].to_pylist() == expected


def test_it_is_pickled_without_the_model_which_is_loaded_once(store: Path) -> None:
    embed = Embedder("tiny/1", store=store)
    ids, blobs = photos(1)
    table = embed.table(ids, blobs)
    loaded = len(embedder._engines)
    state = pickle.dumps(embed)
    assert len(state) < 1000
    again = pickle.loads(state)
    assert again.table(ids, blobs).equals(table)
    assert len(embedder._engines) == loaded


def test_it_takes_one_thread_unless_told(store: Path) -> None:
    before = threading.active_count()
    ids, blobs = photos(1)
    Embedder("tiny/1", store=store, max_pixels=999_999).table(ids, blobs)
    one = threading.active_count() - before
    Embedder("tiny/1", store=store, max_pixels=999_999, threads=3).table(ids, blobs)
    names = [thread.name for thread in threading.enumerate()]
    assert threading.active_count() - before == 2 * one + 2, names


def test_it_works_inside_an_event_loop_and_on_several_threads(store: Path) -> None:
    embed = Embedder("tiny/1", store=store)
    ids, blobs = photos(4)
    expected = embed.table(ids, blobs)

    async def notebook() -> Any:
        return embed.table(ids, blobs)

    assert asyncio.run(notebook()).equals(expected)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(embed.table(ids, blobs))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(table.equals(expected) for table in found)
    assert len(found) == 4


def test_no_variable_of_the_environment_changes_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENET_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("MOBILENET_DECODE", "fast")
    assert ";exact;" in Embedder("tiny/1", store=store).embedding_id


def test_what_is_missing_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="precision"):
        Embedder("tiny/1", store=store, precision="int3")
    with pytest.raises(ArtifactError, match="no model huge/1"):
        Embedder("huge", store=store).table(["a"], [b"x"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="an Arrow or Parquet table needs the extra 'bulk'"):
        Embedder("tiny/1", store=store).table(["a"], [b"x"])


@pytest.mark.slow
def test_a_script_that_uses_it_ends_without_a_word(store: Path) -> None:
    script = (
        "import multiprocessing as m, sys\n"
        "from service.bulk.embedder import Embedder\n"
        "from tests.running import png\n"
        f"embed = Embedder('tiny/1', store={str(store)!r})\n"
        "def rows(count): return embed.table(['a'] * count, [png(1, 32)] * count).num_rows\n"
        "assert rows(2) == 2\n"
        "with m.get_context('fork').Pool(1) as pool: assert pool.apply(rows, (3,)) == 3\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
