"""A small model, a folder of photos, and what a run has left in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from service.cli import cli
from tests.artifacts import make_artifact
from tests.running import png

DIM = 1280


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    make_artifact(path, width_mult=0.1)
    return path


@pytest.fixture(scope="session")
def model(store: Path) -> list[str]:
    return ["--model-store", str(store), "--model", "tiny"]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos in two folders, a file that is none in spite of its name, and a text."""
    path = tmp_path_factory.mktemp("photos")
    (path / "deep").mkdir()
    for index in range(12):
        (path / ("deep" if index % 3 == 0 else "") / f"{index:02}.png").write_bytes(png(index, 32))
    (path / "07.png").write_text("not an image")
    (path / "notes.txt").write_text("left out")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "service", *map(str, arguments)]


def run_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=100, check=False)


class Rows(NamedTuple):
    """All that the shards of a folder hold, in order."""

    paths: list[str]
    vectors: NDArray[np.float32]  # NaN where there is an error
    errors: dict[str, str]

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Rows)
        same = np.array_equal(self.vectors, other.vectors, equal_nan=True)
        return same and self.paths == other.paths and self.errors == other.errors


def rows(folder: Path) -> Rows:
    names = sorted(path.name for path in folder.glob("part-*.npy"))
    assert names == [f"part-{index:05}.npy" for index in range(len(names))], "a shard is missing"
    paths: list[str] = []
    errors: dict[str, str] = {}
    for name in names:
        side = json.loads((folder / name).with_suffix(".json").read_text("ascii"))
        errors |= {side["paths"][int(row)]: error for row, error in side["errors"].items()}
        assert sum(side["counts"].values()) == len(side["paths"])
        paths += side["paths"]
    vectors = [np.load(folder / name, allow_pickle=False) for name in names]
    return Rows(paths, np.concatenate(vectors), errors)


def litter(folder: Path) -> list[str]:
    """What is hidden in ``folder``: temporary files."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def arguments(photos: Path, out: Path, model: Sequence[str], *more: str) -> list[str | Path]:
    return ["embed", photos, "--out", out, "--format", "npy", "--shard-rows", "5", *more, *model]
