"""The copy of a version that a service's processes load: verified, complete, and made whole or not at all."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Literal

import pytest

from service.config import Settings
from service.errors import ArtifactError, OperatorError
from service.model import artifact
from service.model.artifact import Artifact, Derived
from service.processes.version_copy import copy_version
from service.store.write import manifest_bytes
from tests.artifacts import digest, make_artifact


@pytest.fixture
def made(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "store", width_mult=0.1)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """In a directory of a service."""
    path = tmp_path / "memory" / "of-a-service" / "versions-0"
    path.parent.mkdir(parents=True)
    return path


def settings(made: Artifact, precision: Literal["fp32", "int8"] = "fp32") -> Settings:
    return Settings(model_store=made.directory.parents[1], model="tiny", version="1", precision=precision)


def test_it_is_the_same_version_and_needs_the_original_no_more(made: Artifact, copies: Path) -> None:
    weights = made.load_weights()
    assert copy_version(settings(made), copies) == made.manifest
    shutil.rmtree(made.directory)
    copied = artifact.load(copies, "tiny", "1")
    assert (copied.manifest, copied.labels) == (made.manifest, made.labels)
    assert {name: tensor.tobytes() for name, tensor in copied.load_weights().items()} == {
        name: tensor.tobytes() for name, tensor in weights.items()
    }


def test_for_int8_it_has_that_graph_and_no_weights(made: Artifact, copies: Path) -> None:
    graph, constants = b"<net/>", b"constants"
    entry = Derived(
        graph=digest(graph),
        constants=digest(constants),
        made_from=made.manifest.fingerprint(),
        recipe="none",
        calibration="none",
    )
    manifest = made.manifest.model_copy(update={"derived": {"int8": entry}})
    for name, data in {artifact.MANIFEST: manifest_bytes(manifest), "int8.xml": graph, "int8.bin": constants}.items():
        (made.directory / name).write_bytes(data)
    assert copy_version(settings(made, "int8"), copies) == manifest
    assert artifact.load(copies, "tiny", "1").load_derived("int8") == (graph, constants)
    assert sorted(path.name for path in copies.glob("tiny/1/*")) == ["int8.bin", "int8.xml", "labels.txt", "model.json"]


@pytest.mark.parametrize("name", [artifact.LABELS, artifact.WEIGHTS])
def test_what_is_damaged_is_refused_and_nothing_is_written(made: Artifact, copies: Path, name: str) -> None:
    path = made.directory / name
    path.write_bytes(path.read_bytes()[:-2] + b"x\n")
    with pytest.raises(ArtifactError, match=f"^tiny/1: {name} is "):
        copy_version(settings(made), copies)
    assert not copies.exists()


def test_what_was_never_pulled_is_refused(made: Artifact, copies: Path) -> None:
    (made.directory / artifact.WEIGHTS).unlink()
    with pytest.raises(ArtifactError, match=r"^tiny/1: weights.safetensors is missing; add the checkpoint again"):
        copy_version(settings(made), copies)


def refusal(made: Artifact, copies: Path) -> str:
    with pytest.raises(OperatorError) as caught:
        copy_version(settings(made), copies)
    return str(caught.value)


def test_without_room_nothing_is_written(made: Artifact, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the metrics of the processes that run, which are in the same memory, could not be written any more."""
    usage = shutil.disk_usage(copies.parent)._replace(free=100_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert refusal(made, copies) == (
        f"tiny/1 cannot be copied to {copies.parents[1]}, where processes load it from: No space left on device; "
        "make room for two versions there"
    )
    assert not copies.exists()


def test_a_write_that_fails_is_one_sentence(made: Artifact, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    sentence = refusal(made, copies)
    assert "Input/output error" in sentence
    assert "of-a-service" not in sentence
