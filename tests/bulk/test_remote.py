"""``embed`` and ``classify`` with ``--url``: services elsewhere do the work, with the same result as here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.artifacts import make_artifact
from tests.documents import ROOT
from tests.e2e.process import ServerProcess, server
from tests.image.samples import encode, noise
from tests.scrape import samples

pytestmark = pytest.mark.slow

KEY = "Zq7-secret"
PHOTOS = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    make_artifact(folder, name="tiny")
    make_artifact(folder, name="tiny", version="2", seed=5)
    return folder


@pytest.fixture(scope="module")
def service(store: Path) -> Iterator[ServerProcess]:
    keys = {"MOBILENET_API_KEYS": KEY}
    with server("--model-store", str(store), "--model", "tiny", "--max-in-flight", "8", environment=keys) as running:
        yield running


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(PHOTOS):
        (folder / f"{number:02}.png").write_bytes(encode(noise(90, 70, seed=number), "PNG"))
    (folder / "07.png").write_bytes((folder / "08.png").read_bytes()[:-50])
    (folder / "09.png").write_bytes(b"no image")
    return folder


def run(store: Path, command: str, photos: Path, *arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "MOBILENET_API_KEYS": key}
    program = [sys.executable, "-m", "service", command, str(photos), *arguments]
    options = ["--model-store", str(store), "--model", "tiny"]
    return subprocess.run([*program, *options], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=100)


def shards(folder: Path) -> tuple[np.ndarray, list[dict[str, object]]]:
    """All vectors, and what stands beside them."""
    sides = [json.loads(file.read_text()) for file in sorted(folder.glob("part-*.json"))]
    return np.concatenate([np.load(file) for file in sorted(folder.glob("part-*.npy"))]), sides


@pytest.mark.parametrize("normalize", ["--normalize", "--no-normalize"])
def test_vectors_are_those_that_would_be_made_here(
    store: Path, service: ServerProcess, photos: Path, tmp_path: Path, normalize: str
) -> None:
    options = ("--format", "npy", "--shard-rows", "25", normalize)
    here = run(store, "embed", photos, "--out", str(tmp_path / "here"), *options)
    there = run(store, "embed", photos, "--out", str(tmp_path / "there"), *options, "--url", service.url)
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    (mine, sides), (theirs, others) = shards(tmp_path / "here"), shards(tmp_path / "there")
    assert sides == others, "paths, errors and embedding_id"
    assert there.stderr.rpartition(",")[2] == here.stderr.rpartition(",")[2], "the same errors"
    np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs))
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_it_waits_while_others_are_served(service: ServerProcess) -> None:
    with httpx.Client(base_url=service.url) as client:
        metrics = samples(client.get("/metrics").text)
    assert metrics["mobilenet_in_flight"] == 0
    assert metrics['mobilenet_images_total{format="png",model="tiny",outcome="ok",version="1"}'] >= PHOTOS - 2


def test_classes_come_from_there_too(store: Path, service: ServerProcess, photos: Path) -> None:
    here = run(store, "classify", photos, "--json")
    there = run(store, "classify", photos, "--json", "--url", service.url)
    assert (here.returncode, there.returncode) == (1, 1), "two bad photos"
    for mine, theirs in zip(here.stdout.splitlines(), there.stdout.splitlines(), strict=True):
        one, other = json.loads(mine), json.loads(theirs)
        assert one["path"] == other["path"]
        assert [each["index"] for each in one["predictions"]] == [each["index"] for each in other["predictions"]]


def test_two_services_of_two_models_are_never_mixed(
    store: Path, service: ServerProcess, photos: Path, tmp_path: Path
) -> None:
    keys = {"MOBILENET_API_KEYS": KEY}
    arguments = ("--model-store", str(store), "--model", "tiny", "--version", "2")
    with server(*arguments, environment=keys) as other:
        urls = ("--url", service.url, "--url", other.url)
        mixed = run(store, "embed", photos, "--out", str(tmp_path / "out"), "--format", "npy", *urls)
    assert mixed.returncode == 1
    assert "the request asks for those of tiny/1" in mixed.stderr
    assert not list((tmp_path / "out").glob("part-*"))


@pytest.mark.parametrize(
    ("url", "key", "told"),
    [
        (None, "wrong", "a valid API key is required"),
        ("http://127.0.0.1:1", KEY, "Connection refused"),
        ("nonsense", KEY, "must begin with http"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    store: Path, service: ServerProcess, photos: Path, tmp_path: Path, url: str | None, key: str, told: str
) -> None:
    arguments = ("--out", str(tmp_path / "v"), "--format", "npy", "--url", url or service.url)
    refused = run(store, "embed", photos, *arguments, key=key)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert told in refused.stderr
    assert refused.stderr.count("\n") == 1
