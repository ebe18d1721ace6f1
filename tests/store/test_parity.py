"""``models parity`` on a tiny artifact: the table, the manifest, photos that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from service.cli import cli
from service.errors import OperatorError
from service.model import artifact
from service.store.parity import _labels
from tests.artifacts import make_artifact

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_artifact(tmp_path / "store", crop_size=64, resize_size=64, inverted_residual_setting=[(1, 8, 1, 1)])
    return tmp_path / "store"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for label in (3, 9):
        Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)).save(folder / f"{label}_x.jpg")
    return folder


def run(store: Path, photos: Path, *more: str) -> Result:
    arguments = ["models", "parity", "tiny", "--images", str(photos), "--model-store", str(store), *more]
    return CliRunner().invoke(cli, arguments)


def test_prints_a_table_and_puts_it_into_the_manifest(store: Path, photos: Path) -> None:
    result = run(store, photos, "--save")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["precision", "decode", "top-1", "top-5", "agrees", "cosine,", "mean", "min", "ms"]
    assert lines[1].split()[:2] == ["fp32", "exact"]
    assert lines[1].split()[4:7] == ["100.0%", "1.0000", "1.0000"]
    assert "no int8; to make it, run: mobilenet-service models quantize tiny/1" in result.stdout
    measured = artifact.load(store, "tiny", "1").manifest.measured
    assert measured["parity_fp32_exact_agreement"] == 1.0
    assert measured["parity_fp32_fast_ms"] == measured["parity_fp32_exact_ms"]
    assert str(measured["parity_conditions"]).startswith("2 photos, 20")


def test_saves_nothing_unless_told_so(store: Path, photos: Path) -> None:
    assert run(store, photos).exit_code == 0
    assert artifact.load(store, "tiny", "1").manifest.measured == {}


def test_unlabelled_photos_have_no_accuracy(store: Path, photos: Path) -> None:
    (photos / "3_x.jpg").rename(photos / "holiday.jpg")
    result = run(store, photos)
    assert "top-1" not in result.stdout
    assert "agrees" in result.stdout


def test_a_bad_photo_is_left_out_and_named(store: Path, photos: Path) -> None:
    (photos / "1_bad.jpg").write_bytes(b"no")
    result = run(store, photos)
    assert "1_bad.jpg: this is text" in result.stdout
    assert "\n2 photos, " in result.stdout
    for path in photos.glob("[39]_*"):
        path.unlink()
    assert isinstance(run(store, photos).exception, OperatorError)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["d/285_Egyptian_cat.JPEG", "d/000_tench.JPEG"], [285, 0]),
        (["285/a.jpg", "7/b.jpg"], [285, 7]),
        (["d/285_cat.jpg", "d/cat.jpg"], None),
        (["d/1000_too_many.jpg"], None),
    ],
)
def test_labels_come_from_names_or_folders(names: list[str], labels: list[int] | None) -> None:
    assert _labels([Path(name) for name in names], 1000) == labels
