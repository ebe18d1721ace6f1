"""The command line: help, local classification and embedding, the models commands, errors without tracebacks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from service.bulk import plan, shards
from service.cli import cli
from service.cli.options import settings_from
from service.config import Settings
from service.errors import OperatorError
from service.model.artifact import WEIGHTS, read_manifest
from tests.artifacts import make_artifact


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    make_artifact(path, name="tiny", num_classes=10)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(40, 0).repeat(40, 1)
        Image.fromarray(pixels).save(path / f"photo{index}.jpg")
    (path / "notes.txt").write_text("not an image")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def model(store: Path) -> Sequence[str]:
    return "--model-store", str(store), "--model", "tiny"


@pytest.mark.parametrize(
    "command",
    [(), ("serve",), ("models",), ("models", "pull"), ("models", "list"), ("models", "verify"), ("models", "add"),
     ("models", "quantize"), ("models", "parity"), ("models", "promote"), ("models", "rollback"), ("models", "status"),
     ("classify",), ("embed",), ("explain",)],
)  # fmt: skip
def test_every_command_explains_itself(command: Sequence[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert len(result.output.splitlines()) > 5


def test_serve_has_an_option_for_every_setting_but_the_secret_ones() -> None:
    text = run("serve", "--help").output
    for name in Settings.model_fields:
        flag = f"--{name.replace('_', '-')} "
        assert (flag in text) == (name != "api_keys"), flag


def test_classify_prints_classes_by_falling_probability(store: Path, folder: Path) -> None:
    result = run("classify", folder / "photo0.jpg", "--top-k", "3", *model(store))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].endswith("photo0.jpg")
    shares = [float(line.split("%")[0]) for line in lines[1:]]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 3
    assert "class " in lines[1]


def test_classify_as_json_over_a_folder(store: Path, folder: Path) -> None:
    result = run("classify", folder, "--json", *model(store))
    assert result.exit_code == 0, result.output
    assert result.stderr == f"warning: left out 1 of 4 files in {folder}: .txt (1)\n"
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(entry["path"]).name for entry in entries] == ["photo0.jpg", "photo1.jpg", "photo2.jpg"]
    assert all(len(entry["predictions"]) == 5 for entry in entries)


def test_a_bad_file_is_reported_and_the_rest_is_answered(store: Path, folder: Path) -> None:
    result = run("classify", folder / "notes.txt", folder / "gone.jpg", folder / "photo1.jpg", *model(store))
    assert result.exit_code == 1
    assert "notes.txt: this is text; send an image" in result.stderr
    assert "gone.jpg: No such file" in result.stderr
    assert "photo1.jpg" in result.stdout


def test_embed_writes_a_matrix_and_its_rows_names(store: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    result = run("embed", folder, "--out", out, *model(store))
    assert result.exit_code == 0, result.output
    matrix = np.load(out, allow_pickle=False)
    assert matrix.shape == (3, 1280)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-6)
    side = json.loads((tmp_path / "vectors.json").read_text("ascii"))
    assert side["paths"] == [str(folder / f"photo{index}.jpg") for index in range(3)]
    assert side["embedding_id"].startswith("tiny/1;fp32;exact;n1;")
    assert side.keys() == {"paths", "embedding_id", "model"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vectors.json", "vectors.npy"]


def test_odd_file_names_lose_no_row_and_no_byte(store: Path, folder: Path, tmp_path: Path) -> None:
    photo = (folder / "photo0.jpg").read_bytes()
    names = [b"line\nbreak.jpg", b'quote".jpg', b"latin \xe9.jpg", "ümlaut.jpg".encode()]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(photo)
    out = tmp_path / os.fsdecode(b"\xff.npy")
    result = run("embed", tmp_path, out.with_name("gone.jpg"), "--out", out, "--skip-errors", *model(store))
    assert result.exit_code == 0, result.output
    paths = json.loads(out.with_suffix(".json").read_text("ascii"))["paths"]
    assert sorted(os.fsencode(Path(path).name) for path in paths) == sorted(names)
    assert len(np.load(out)) == len(paths), "the file that failed has no row"
    for arguments in ((), ("--json",)):
        listed = run("classify", tmp_path, *arguments, *model(store))
        assert listed.exit_code == 0, listed.exception
    assert [json.loads(line)["path"] for line in listed.stdout.splitlines()] == paths


def test_embed_writes_both_files_or_none(store: Path, folder: Path, tmp_path: Path) -> None:
    def full(file: IO[bytes]) -> None:
        if file.name.endswith(".full"):
            raise OSError(errno.ENOSPC, "No space left on device")

    names = iter(["first", "second.full"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "sync", full)
        patch.setattr(plan, "temporary_name", lambda folder: folder / next(names))
        refused = run("embed", folder, "--out", tmp_path / "vectors.npy", *model(store))
    assert "vectors.npy cannot be written: No space" in str(refused.exception)
    assert not any(tmp_path.iterdir())


def test_embed_writes_nothing_if_a_file_is_bad_unless_told_to_skip(store: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    arguments: list[str | Path] = ["embed", folder / "photo0.jpg", folder / "notes.txt", "--out", out, *model(store)]
    refused = run(*arguments)
    assert isinstance(refused.exception, OperatorError)
    assert not out.exists()
    assert run(*arguments, "--skip-errors").exit_code == 0
    assert np.load(out).shape == (1, 1280)


def test_embed_wants_a_name_that_ends_in_npy(store: Path, folder: Path, tmp_path: Path) -> None:
    refused = run("embed", folder, "--out", tmp_path / "vectors.txt", *model(store))
    assert isinstance(refused.exception, OperatorError)
    assert not any(tmp_path.iterdir())


def test_explain_draws_the_map_of_a_class(store: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.png"
    best = run("explain", folder / "photo0.jpg", "--out", out, *model(store))
    assert best.exit_code == 0, best.output
    *predictions, last = best.stdout.splitlines()
    assert len(predictions) == 5
    strongest = predictions[0].split()[1]
    assert last.startswith(f"{out}: class {strongest}, class {strongest}: logit ")
    with Image.open(out) as drawing:
        assert (drawing.format, drawing.size) == ("PNG", (320, 320))
        assert drawing.info["Description"] == last.removeprefix(f"{out}: ")
    weakest = run("explain", folder / "photo0.jpg", "--out", out, "--class", "9", "--opacity", "0.3", *model(store))
    assert weakest.stdout.splitlines()[:-1] == predictions
    with Image.open(out) as drawing:
        assert drawing.info["Description"].startswith("class 9, ")
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


@pytest.mark.parametrize(
    ("photo", "out", "arguments", "message"),
    [
        ("photo0.jpg", "map.jpg", (), "the name must end in .png"),
        ("photo0.jpg", "gone/map.png", (), "cannot be written: No such file or directory"),
        ("photo0.jpg", "map.png", ("--class", "10"), "--class 10: the model's classes are 0 to 9"),
        ("notes.txt", "map.png", (), "notes.txt: this is text; send an image"),
        ("gone.jpg", "map.png", (), "gone.jpg: No such file"),
    ],
)
def test_explain_writes_nothing_where_something_is_wrong(
    store: Path, folder: Path, tmp_path: Path, photo: str, out: str, arguments: Sequence[str], message: str
) -> None:
    refused = run("explain", folder / photo, "--out", tmp_path / out, *arguments, *model(store))
    assert isinstance(refused.exception, OperatorError)
    assert message in str(refused.exception)
    assert not any(tmp_path.iterdir())


def test_variables_of_no_setting_are_mentioned_and_empty_ones_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENET_PROT", "9000")
    monkeypatch.setenv("MOBILENET_PORT", "")
    result = run("models", "list")
    assert "warning: MOBILENET_PROT is set, but there is no such setting" in result.stderr
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "gpu"}, "--device: must be auto, cpu, cuda or cuda:N (got 'gpu')"),
        ({"model": "pets/1"}, "--model: must not contain /; model and version are two settings (got 'pets/1')"),
        (
            {"max_batch_size": "0", "decode": "slow"},
            "--decode: Input should be 'exact' or 'fast' (got 'slow'); "
            "--max-batch-size: Input should be greater than or equal to 1, or 'auto' (got '0')",
        ),
    ],
)
def test_all_that_is_wrong_with_settings_is_told_in_words(given: dict[str, str], message: str) -> None:
    with pytest.raises(OperatorError) as refused:
        settings_from(**given)
    assert str(refused.value) == message


def test_what_is_wrong_with_variables_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENET_PAGE", "maybe")
    with pytest.raises(OperatorError, match=r"^MOBILENET_PAGE: must be true or false \(got 'maybe'\)$"):
        settings_from(page=None)


def test_models_list_and_verify(tmp_path: Path) -> None:
    made = make_artifact(tmp_path, name="tiny", num_classes=3)
    at = ("--model-store", tmp_path)
    assert "tiny/1  ready" in run("models", "list", *at).output
    assert run("models", "verify", *at).exit_code == 0
    weights = made.directory / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "tiny/1  corrupt" in run("models", "list", *at).output
    broken = run("models", "verify", "tiny", *at)
    assert broken.exit_code == 1
    assert "corrupt" in broken.stderr


def test_models_add_makes_a_servable_model(tmp_path: Path, folder: Path) -> None:
    rows = [(1, 16, 1, 1), (6, 24, 2, 2)]
    original = make_artifact(tmp_path / "a", num_classes=4, width_mult=0.5, inverted_residual_setting=rows)
    labels = tmp_path / "labels.txt"
    labels.write_text("ash\nbeech\noak\nyew\n")
    added = run(
        "models", "add", original.directory / WEIGHTS, "--labels", labels, "--name", "trees", "--width-mult", "0.5",
        "--inverted-residual-setting", json.dumps(rows), "--mean", "0.5", "0.5", "0.5", "--std", "1", "1", "1",
        "--model-store", tmp_path / "b",
    )  # fmt: skip
    assert added.exit_code == 0, added.output
    assert "mobilenet-service serve --model trees --version 1" in added.output
    classified = run("classify", folder / "photo0.jpg", "--model-store", tmp_path / "b", "--model", "trees")
    assert sorted(line.split()[-1] for line in classified.output.splitlines()[1:]) == ["ash", "beech", "oak", "yew"]


def test_models_add_like_another_and_for_several_labels(tmp_path: Path, folder: Path) -> None:
    made = make_artifact(tmp_path, name="trees", num_classes=4, width_mult=0.1, rotate_180=True)
    added = run(
        "models", "add", made.directory / WEIGHTS, "--name", "trees", "--version", "2", "--like", "trees/1",
        "--head", "sigmoid", "--threshold", "0.3", "--model-store", tmp_path,
    )  # fmt: skip
    assert added.exit_code == 0, added.output
    assert read_manifest(tmp_path / "trees" / "2").preprocessing == made.manifest.preprocessing
    at = ("--model-store", tmp_path, "--model", "trees", "--version", "2")
    (line,) = run("classify", folder / "photo0.jpg", "--json", *at).output.splitlines()
    predictions = json.loads(line)["predictions"]
    assert len(predictions) == 4
    assert all(p["reached"] is (p["probability"] >= 0.3) for p in predictions)
    assert sum(p["probability"] for p in predictions) != pytest.approx(1)


@pytest.mark.parametrize("text", ["[", "{}", "[[1,2,3]]", '[["a",1,1,1]]'])
def test_a_malformed_stage_table_is_refused(store: Path, tmp_path: Path, text: str) -> None:
    result = run(
        "models", "add", tmp_path / "x", "--labels", tmp_path / "y", "--name", "z", "--inverted-residual-setting", text
    )
    assert isinstance(result.exception, OperatorError)
    assert "rows [t, c, n, s]" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--port", "99999"], "error: --port: "),
        (["serve", "--precision", "int3"], "error: --precision: "),
        (["serve", "--model", "huge"], "error: no model huge/1 in "),
        (["classify", "nowhere.jpg", "--model", "huge"], "error: no model huge/1 in "),
        (["models", "pull", "huge"], "error: no model huge/1 in "),
        (["models", "list", "--model-store", "/nowhere"], "error: the model store /nowhere cannot be read"),
        pytest.param(["models", "quantize", "huge"], "error: no model huge/1 in ", marks=pytest.mark.extra),
        (["models", "parity", "--images", "/nowhere"], "error: /nowhere is not a folder"),
        (["models", "add", "x.safetensors", "--labels", "gone.txt", "--name", "a"], "error: the labels gone.txt"),
    ],
)
def test_errors_are_one_line_without_a_traceback(arguments: Sequence[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(message), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_damaged_photo_is_told_or_refused(store: Path, folder: Path, tmp_path: Path) -> None:
    photo = (folder / "photo0.jpg").read_bytes()
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(photo[: len(photo) // 2] + b"\xff\xd9")
    result = run("classify", damaged, *model(store))
    assert result.exit_code == 0
    assert f"warning: {damaged}: the JPEG is damaged: premature end of data segment" in result.stderr
    result = run("classify", damaged, *model(store), "--damaged", "refuse")
    assert result.exit_code == 1
    assert "the JPEG is damaged: premature end of data segment" in result.output
