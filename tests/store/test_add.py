"""``add``: a user's checkpoint becomes a complete version, or nothing at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.errors import ArtifactError
from service.model import artifact
from service.store import write
from service.store.add import add
from service.store.catalog import list_models, verify
from tests.artifacts import make_artifact
from tests.store.conftest import child, fail_with, litter


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_every_option_reaches_the_manifest(store: Path, tmp_path: Path) -> None:
    rows = [(1, 16, 1, 1), (4, 24, 2, 2)]
    made = make_artifact(
        tmp_path / "made", width_mult=0.5, num_classes=2, round_nearest=4, inverted_residual_setting=rows
    )
    (tmp_path / "labels").write_bytes("\ufeffnaïve\r\nöther\r\n".encode())
    found = add(
        store,
        made.directory / artifact.WEIGHTS,
        tmp_path / "labels",
        name="odd",
        version="2024.1",
        width_mult=0.5,
        num_classes=2,
        round_nearest=4,
        inverted_residual_setting=[list(row) for row in rows],
        resize_size=200,
        crop_size=192,
        interpolation="bicubic",
        mean=(0.5, 0.4, 0.3),
        std=[0.25, 0.26, 0.27],
        description="two odd classes",
        licence="CC0",
    )
    manifest = found.manifest
    assert found.directory == store / "odd" / "2024.1"
    assert found.labels == ("naïve", "öther")
    assert manifest.architecture.model_dump() == {
        "width_mult": 0.5,
        "num_classes": 2,
        "round_nearest": 4,
        "inverted_residual_setting": rows,
    }
    assert manifest.preprocessing.model_dump() == {
        "resize_size": 200,
        "crop_size": 192,
        "interpolation": "bicubic",
        "mean": (0.5, 0.4, 0.3),
        "std": (0.25, 0.26, 0.27),
        "rotate_180": False,
    }
    assert (manifest.description, manifest.licence) == ("two odd classes", "CC0")
    assert found.digest == made.digest
    # Written as it is read: a second round changes nothing.
    assert write.manifest_bytes(artifact.read_manifest(found.directory)) == (
        (found.directory / artifact.MANIFEST).read_bytes()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 4}, r"labels.txt has 3 labels, but num_classes is 4"),
        ({"width_mult": 1.0}, r"pets/1 from mine.safetensors: features.0.0.weight has shape"),
        ({"width_mult": 0.0}, r"cannot be described: architecture.width_mult: Input should be greater than 0"),
        ({"round_nearest": 0}, r"cannot be described: architecture.round_nearest"),
        ({"inverted_residual_setting": [[1, 2]]}, r"cannot be described: architecture.inverted_residual_setting"),
        ({"mean": (0.5,)}, r"cannot be described: preprocessing.mean"),
        ({"crop_size": 288}, r"crop_size 288 is larger than resize_size 256"),
        ({"name": "../pets"}, r"cannot be described: name"),
        ({"version": "a/b"}, r"cannot be described: version"),
    ],
)
def test_options_that_do_not_fit(
    options: dict[str, Any], message: str, checkpoint: Path, labels: Path, store: Path, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"name": "pets", "width_mult": 0.1} | options
    with pytest.raises(ArtifactError, match=message):
        add(store, checkpoint, labels, **arguments)
    assert not store.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"", "is empty at line 1"), (b"cat\n\nbird\n", "is empty at line 2"), (b"\xff\n", "is not UTF-8")],
)
def test_labels_that_are_none(text: bytes, message: str, checkpoint: Path, labels: Path, store: Path) -> None:
    labels.write_bytes(text)
    with pytest.raises(ArtifactError, match=message):
        add(store, checkpoint, labels, name="pets", width_mult=0.1)


def test_integers_in_safetensors(labels: Path, store: Path, tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.int8)}, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match="tensor a is of type I8, not a floating-point type"):
        add(store, tmp_path / "x.safetensors", labels, name="pets", width_mult=0.1)


def test_files_that_are_not_there(checkpoint: Path, labels: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the labels absent cannot be read: No such file"):
        add(store, checkpoint, tmp_path / "absent", name="pets", width_mult=0.1)
    with pytest.raises(ArtifactError, match="the checkpoint absent cannot be read: No such file"):
        add(store, tmp_path / "absent", labels, name="pets", width_mult=0.1)


def test_an_existing_version_is_kept(checkpoint: Path, labels: Path, store: Path) -> None:
    first = add(store, checkpoint, labels, name="pets", width_mult=0.1)
    inode = first.directory.stat().st_ino
    add(store, checkpoint, labels, name="pets", width_mult=0.1)  # identical: nothing to do
    assert first.directory.stat().st_ino == inode
    labels.write_text("a\nb\nc\n")
    with pytest.raises(ArtifactError, match=r"pets/1 exists and differs; choose another --version or use --force"):
        add(store, checkpoint, labels, name="pets", width_mult=0.1)
    assert verify(store, "pets", "1").labels == ("cat", "dog", "bird")
    add(store, checkpoint, labels, name="pets", width_mult=0.1, version="2")
    add(store, checkpoint, labels, name="pets", width_mult=0.1, force=True)
    assert verify(store, "pets", "1").labels == ("a", "b", "c")
    assert [entry.reference for entry in list_models(store)] == ["pets/1", "pets/2"]
    assert litter(store) == []


def test_a_full_disk(checkpoint: Path, labels: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with pytest.raises(ArtifactError, match=r"pets/1: the disk of .* is full"):
        add(store, checkpoint, labels, name="pets", width_mult=0.1)
    assert list_models(store) == []
    assert litter(store) == []


def test_a_read_only_store(checkpoint: Path, labels: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", fail_with(errno.EROFS))
    with pytest.raises(ArtifactError, match=r"is not writable \(Read-only file system\)"):
        add(store, checkpoint, labels, name="pets", width_mult=0.1)


def test_a_replacement_that_fails_keeps_the_old(
    checkpoint: Path, labels: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, checkpoint, labels, name="pets", width_mult=0.1)
    labels.write_text("a\nb\nc\n")
    rename = Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.name.startswith(write.TEMPORARY):
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail_for_the_new)
        with pytest.raises(KeyboardInterrupt):
            add(store, checkpoint, labels, name="pets", width_mult=0.1, force=True)
    assert verify(store, "pets", "1").labels == ("cat", "dog", "bird")
    assert litter(store) == []


ADD = """
import signal, sys
from pathlib import Path
from service.store.add import add
store, checkpoint, labels, force = sys.argv[1:]
rename = Path.rename

def stop(self, target):
    if self.name.startswith(".tmp-"):
        print("here", flush=True)
        signal.pause()
    return rename(self, target)

Path.rename = stop
add(Path(store), Path(checkpoint), Path(labels), name="pets", width_mult=0.1, force=bool(force))
"""


@pytest.mark.parametrize("existing", [False, True])
def test_kill_just_before_the_version_appears(existing: bool, checkpoint: Path, labels: Path, store: Path) -> None:
    if existing:
        add(store, checkpoint, labels, name="pets", width_mult=0.1)
        labels.write_text("a\nb\nc\n")
    with child(ADD, store, checkpoint, labels, "yes" if existing else "") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert list_models(store) == []
    write.remove_leftovers(store / "pets")  # what the next writer does first
    assert [entry.state for entry in list_models(store)] == (["ready"] if existing else [])
    found = add(store, checkpoint, labels, name="pets", width_mult=0.1, force=existing)
    assert found.labels == (("a", "b", "c") if existing else ("cat", "dog", "bird"))
    assert litter(store) == []
