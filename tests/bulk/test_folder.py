"""Folders of shards: what is in them, plans, workers, errors that are counted, disks that are full or read-only."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.cli import tally
from service.errors import OperatorError
from service.model.artifact import load
from tests.bulk.conftest import DIM, Rows, arguments, litter, rows, run, run_process
from tests.disks import Disk, disk
from tests.running import png

__all__ = ["disk"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, photos: Path, model: Sequence[str]) -> Path:
    """What a run leaves that nothing disturbs."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = run(*arguments(photos, out, model))
    assert done.exit_code == 0, done.output
    return out


def test_every_photo_has_a_row_and_a_bad_one_an_error(whole: Path, photos: Path, store: Path) -> None:
    made = rows(whole)
    assert made.paths == [str(path) for path in sorted(photos.rglob("*.png"))]
    bad = str(photos / "07.png")
    assert made.errors == {bad: "this is text; send an image"}
    assert made.vectors.shape == (12, DIM)
    assert [made.paths[row] for row in np.flatnonzero(np.isnan(made.vectors).any(axis=1))] == [bad]
    lengths = np.linalg.norm(made.vectors, axis=1)
    np.testing.assert_allclose(lengths[~np.isnan(lengths)], 1, atol=1e-6)
    side = json.loads((whole / "part-00000.json").read_bytes())
    identity = load(store, "tiny", "1").embedding_id("fp32", "openvino", "exact", unit_length=True)
    assert (side["model"], side["embedding_id"]) == ("tiny/1", identity)
    assert json.loads((whole / "_SUCCESS").read_bytes()) == {
        "photos": 12,
        "outcomes": {"ok": 11, "unsupported_format": 1},
    }
    assert litter(whole) == []


def test_the_summary_tells_what_was_done_and_what_was_left_out(
    photos: Path, model: Sequence[str], tmp_path: Path
) -> None:
    done = run(*arguments(photos, tmp_path / "out", model))
    assert done.stdout == ""
    left_out, summary = done.stderr.splitlines()
    assert left_out == f"warning: left out 1 of 13 files in {photos}: .txt (1)"
    assert summary.startswith(f"{tmp_path / 'out'}: 12 of 12 photos, ")
    assert summary.endswith("/s, errors: unsupported_format (1); 3 of 3 shards are there; left out: .txt (1)")


def test_a_run_goes_on_only_when_told_to_and_makes_what_is_missing(
    whole: Path, photos: Path, model: Sequence[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(*arguments(photos, out, model)).exit_code == 0
    refused = run(*arguments(photos, out, model))
    assert str(refused.exception) == f"{out} holds a run already; --resume goes on with it"
    kept = (out / "part-00000.npy").stat().st_mtime_ns
    for name in ("part-00001.npy", "part-00002.npy", "part-00002.json", "_SUCCESS"):
        (out / name).unlink()
    (out / ".tmp-0123").write_bytes(b"abandoned")
    gone_on = run(*arguments(photos, out, model, "--resume"))
    assert gone_on.exit_code == 0, gone_on.output
    assert ": 7 of 7 photos, " in gone_on.stderr
    assert (out / "part-00000.npy").stat().st_mtime_ns == kept
    assert rows(out) == rows(whole)
    assert (out / "_SUCCESS").exists()
    assert litter(out) == []
    nothing = run(*arguments(photos, out, model, "--resume"))
    assert nothing.exit_code == 0
    assert ": 0 of 0 photos, " in nothing.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--shard-rows", "6"], "shard_rows is 5 there and 6 here"),
        (["--no-normalize"], "embedding_id is tiny/1;"),
        (["--decode", "fast"], "embedding_id is tiny/1;"),
        (["--max-pixels", "1000"], "max_pixels is auto there and 1000 here"),
        (["--damaged", "refuse"], "damaged is warn there and refuse here"),
        (["EXTRA"], "photos is 12 there and 13 here, ids_sha256 is "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_another_run_is_refused_and_told_what_differs(
    whole: Path, photos: Path, model: Sequence[str], change: list[str], told: str
) -> None:
    extra = [str(photos / "00.png") if word == "EXTRA" else word for word in change]
    before = sorted(path.name for path in whole.iterdir())
    refused = run(*arguments(photos, whole, model, "--resume", *extra))
    assert isinstance(refused.exception, OperatorError)
    assert str(refused.exception).startswith(f"{whole} belongs to another run: {told}")
    assert sorted(path.name for path in whole.iterdir()) == before


def test_what_others_have_in_the_folder_stays(photos: Path, model: Sequence[str], tmp_path: Path) -> None:
    for name in (".tmp-another", "notes.txt"):
        (tmp_path / name).write_text("another's")
    assert run(*arguments(photos, tmp_path, model)).exit_code == 0
    assert {(tmp_path / name).read_text() for name in (".tmp-another", "notes.txt")} == {"another's"}


def test_a_damaged_plan_is_refused(photos: Path, model: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "_plan.json").write_text("{")
    refused = run(*arguments(photos, tmp_path, model, "--resume"))
    assert "_plan.json is damaged" in str(refused.exception)


def test_workers_share_the_shards_and_the_last_one_says_so(
    whole: Path, photos: Path, model: Sequence[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = run(*arguments(photos, out, model, "--worker", "0/2"))
    assert first.exit_code == 0
    assert sorted(path.name for path in out.glob("*.npy")) == ["part-00000.npy", "part-00002.npy"]
    assert not (out / "_SUCCESS").exists()
    assert run(*arguments(photos, out, model, "--worker", "1/2")).exit_code == 0
    assert rows(out) == rows(whole)
    assert json.loads((out / "_SUCCESS").read_bytes())["photos"] == 12


@pytest.mark.parametrize("value", ["2/2", "-1/2", "1", "a/b", "0/0"])
def test_a_worker_that_cannot_be_is_refused(value: str, photos: Path, model: Sequence[str], tmp_path: Path) -> None:
    refused = run(*arguments(photos, tmp_path / "out", model, "--worker", value))
    assert refused.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("most", "photos_bad", "status"),
    [("1", 1, 0), ("0", 1, 3), ("1", 2, 3), ("1%", 12, 0), ("50%", 101, 3), ("100%", 101, 0)],
)
def test_too_many_errors_stop_the_run(
    most: str, photos_bad: int, status: int, model: Sequence[str], tmp_path: Path
) -> None:
    """A percentage counts from a hundred photos on."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(photos_bad):
        (folder / f"{index:03}.png").write_text("bad")
    for index in range(3):
        (folder / f"good{index}.png").write_bytes(png(index, 32))
    done = run(*arguments(folder, tmp_path / "out", model, "--max-errors", most))
    assert done.exit_code == status, done.output
    assert (f"error: more than {most} errors: " in done.stderr) == (status == 3)
    assert litter(tmp_path / "out") == []
    assert (tmp_path / "out" / "_SUCCESS").exists() == (status == 0)


def test_folder_options_without_a_folder_are_refused(photos: Path, model: Sequence[str], tmp_path: Path) -> None:
    for option in (["--resume"], ["--worker", "0/1"], ["--max-errors", "1"]):
        commands: list[list[str | Path]] = [["embed", photos, "--out", tmp_path / "x.npy"], ["classify", photos]]
        for words in commands:
            refused = run(*words, *option, *model)
            assert str(refused.exception) == f"{option[0]} is for folders of shards"
    assert run("embed", "--out", tmp_path / "x.npy", *model).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_odd_names_keep_every_byte(model: Sequence[str], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = sorted([b"line\nbreak.png", b'quote".png', b"latin \xe9.png", "ümlaut.png".encode(), b"back\\slash.png"])
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(png(1, 32))
    assert run(*arguments(folder, tmp_path / "out", model)).exit_code == 0
    assert sorted(os.fsencode(Path(path).name) for path in rows(tmp_path / "out").paths) == names


def test_a_model_that_is_not_there_leaves_nothing(photos: Path, store: Path, tmp_path: Path) -> None:
    refused = run(*arguments(photos, tmp_path / "out", ["--model-store", str(store), "--model", "huge"]))
    assert "no model huge/1" in str(refused.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_disk_that_is_full_is_told_and_the_run_goes_on_later(
    disk: Disk, photos: Path, model: Sequence[str], tmp_path: Path
) -> None:
    thrice = [str(photos), str(photos)]
    assert run(*arguments(photos, tmp_path / "whole", model, *thrice)).exit_code == 0
    out = disk.path / "out"
    out.mkdir()
    disk.fill()  # there is room for half of it
    failed = run_process(*arguments(photos, out, model, *thrice))
    assert failed.returncode == 1
    assert f"error: {out} cannot be written: No space left on device; finished shards stay" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert litter(out) == []
    assert {np.load(path).shape for path in out.glob("*.npy")} == {(5, DIM)}
    disk.empty()
    assert run(*arguments(photos, out, model, "--resume", *thrice)).exit_code == 0
    assert rows(out) == rows(tmp_path / "whole")


def test_a_folder_that_is_read_only_is_told(disk: Disk, photos: Path, model: Sequence[str]) -> None:
    disk.read_only()
    refused = run(*arguments(photos, disk.path / "out", model))
    assert "out cannot be written: Read-only file system" in str(refused.exception)


@pytest.mark.extra
def test_the_same_rows_come_as_parquet(whole: Path, photos: Path, model: Sequence[str], tmp_path: Path) -> None:
    from pyarrow import parquet

    out = tmp_path / "out"
    done = run("embed", photos, "--out", out, "--format", "parquet", "--shard-rows", "5", *model)
    assert done.exit_code == 0, done.output
    table = parquet.read_table(out)
    assert table.schema.names == ["path", "embedding", "warnings", "error"]
    assert table.schema.metadata[b"embedding_id"].startswith(b"tiny/1;fp32;exact;n1;")
    vectors = np.array([value or [np.nan] * DIM for value in table["embedding"].to_pylist()], np.float32)
    errors = {row["path"]: row["error"] for row in table.select(["path", "error"]).to_pylist() if row["error"]}
    assert Rows(table["path"].to_pylist(), vectors, errors) == rows(whole)
    assert json.loads((out / "_SUCCESS").read_bytes())["outcomes"] == {"ok": 11, "unsupported_format": 1}
    assert sorted(path.name for path in out.iterdir() if path.name[0] != "p") == ["_SUCCESS", "_plan.json"]


@pytest.mark.extra
def test_classes_come_as_parquet(photos: Path, model: Sequence[str], tmp_path: Path) -> None:
    from pyarrow import parquet

    out = tmp_path / "out"
    assert run("classify", photos, "--out", out, "--top-k", "2", *model).exit_code == 0
    printed = run("classify", photos, "--json", "--top-k", "2", *model)
    expected = {entry["path"]: entry["predictions"] for entry in map(json.loads, printed.stdout.splitlines())}
    table = parquet.read_table(out).to_pylist()
    assert len(table) == 12
    for row in table:
        if row["error"] is None:
            of_row = zip(row["indices"], row["labels"], row["probabilities"], strict=True)
            assert [dict(zip(("index", "label", "probability"), each, strict=True)) for each in of_row] == expected[
                row["path"]
            ]
        else:
            assert row["labels"] is row["indices"] is row["probabilities"] is None
            assert row["path"] not in expected


@pytest.mark.extra
def test_in_parquet_other_bytes_of_a_path_are_escaped(model: Sequence[str], tmp_path: Path) -> None:
    from pyarrow import parquet

    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / os.fsdecode(b"latin \xe9.png")).write_bytes(png(1, 32))
    assert run("embed", folder, "--out", tmp_path / "out", "--format", "parquet", *model).exit_code == 0
    assert parquet.read_table(tmp_path / "out")["path"].to_pylist() == [f"{folder}/latin \\udce9.png"]


def test_without_pyarrow_the_extra_is_named_before_anything_is_written(
    photos: Path, model: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused = run("embed", photos, "--out", tmp_path / "out", "--format", "parquet", *model)
    assert str(refused.exception).startswith("an Arrow or Parquet table needs the extra 'bulk'")
    assert not (tmp_path / "out").exists()


def test_off_a_terminal_progress_is_lines(
    photos: Path, model: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "_EVERY_S", 0.0)
    done = run(*arguments(photos, tmp_path / "out", model, str(photos)))
    lines = [line for line in done.stderr.splitlines() if line.endswith(" minutes left")]
    assert len(lines) == 24
    assert re.fullmatch(r"24 of 24 photos, [\d.]+/s, errors: unsupported_format \(2\), 0 minutes left", lines[-1]), (
        lines[-1]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_while_photos_are_listed(
    number: signal.Signals, status: int, photos: Path, model: Sequence[str], tmp_path: Path
) -> None:
    program = (
        "import signal; from service.bulk import sources; from service.cli import main; "
        f"sources.walk = lambda *arguments: signal.raise_signal({int(number)}); main()"
    )
    given = [str(argument) for argument in arguments(photos, tmp_path / "out", model)]
    done = subprocess.run([sys.executable, "-c", program, *given], capture_output=True, text=True, timeout=100)
    assert done.returncode == status, done.stderr
    assert list((tmp_path / "out").iterdir()) == []
