"""``add``: a user's checkpoint becomes a complete version, or nothing at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from service import artifact
from service.artifact import Artifact
from service.errors import ArtifactError, MissingExtra
from service.store import checkpoint as checkpoint_module
from service.store import write
from service.store.add import add
from service.store.catalog import list_models, verify
from tests.artifacts import make_artifact
from tests.store.conftest import litter

REPOSITORY = Path(__file__).parents[2]
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("original"), width_mult=0.1, num_classes=3)


@pytest.fixture
def state(original: Artifact) -> State:
    """As ``state_dict()`` gives it, with the counters that inference does not need."""
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in original.load_weights().items()}
    norms = [name for name in state if name.endswith("running_var")]
    return state | {name.replace("running_var", "num_batches_tracked"): torch.tensor(7) for name in norms}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")
    return tmp_path / "labels.txt"


@pytest.fixture
def checkpoint(state: State, tmp_path: Path) -> Path:
    save_torch_file(state, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def as_safetensors(state: State, path: Path) -> None:
    save_torch_file(state, path)


def as_pth(state: State, path: Path) -> None:
    torch.save(state, path)


def as_training_script(state: State, path: Path) -> None:
    torch.save({"model": state, "epoch": 3, "optimizer": {"lr": 0.1}}, path)


def as_lightning(state: State, path: Path) -> None:
    torch.save({"state_dict": state, "epoch": 3}, path)


def as_data_parallel(state: State, path: Path) -> None:
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)


@pytest.mark.parametrize("save", [as_safetensors, as_pth, as_training_script, as_lightning, as_data_parallel])
def test_every_way_to_save_a_state_dict(
    save: Callable[[State, Path], None], state: State, original: Artifact, labels: Path, store: Path, tmp_path: Path
) -> None:
    save(state, tmp_path / "mine.pt")
    found = add(store, tmp_path / "mine.pt", labels, name="pets", width_mult=0.1)
    assert found.digest == original.digest
    assert found.labels == ("cat", "dog", "bird")
    assert found.manifest.architecture.num_classes == 3
    assert found.manifest.source.kind == "local"
    assert found.manifest.source.origin == "the file mine.pt"  # the name, not where it lay
    preprocessing = found.manifest.preprocessing
    assert (preprocessing.resize_size, preprocessing.crop_size, preprocessing.interpolation) == (256, 224, "bilinear")
    assert preprocessing.mean == (0.485, 0.456, 0.406)
    assert preprocessing.std == (0.229, 0.224, 0.225)
    assert not preprocessing.rotate_180
    verify(store, "pets", "1")
    assert litter(store) == []


@pytest.mark.parametrize("save", [as_safetensors, as_pth])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(
    save: Callable[[State, Path], None], kind: torch.dtype, state: State, labels: Path, store: Path, tmp_path: Path
) -> None:
    converted = {name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save(converted, tmp_path / "mine.bin")
    tensors = add(store, tmp_path / "mine.bin", labels, name="pets", width_mult=0.1).load_weights()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, converted[name].float().numpy())


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
        ({"inverted_residual_setting": []}, r"cannot be described: architecture"),
        ({"mean": (0.5,)}, r"cannot be described: preprocessing.mean"),
        ({"std": (0.5, 0.0, 0.5)}, r"cannot be described: preprocessing.std"),
        ({"interpolation": "nearest"}, r"cannot be described: preprocessing.interpolation"),
        ({"crop_size": 8}, r"cannot be described: preprocessing.crop_size"),
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


def test_files_that_are_not_there(checkpoint: Path, labels: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the labels absent cannot be read: No such file"):
        add(store, checkpoint, tmp_path / "absent", name="pets", width_mult=0.1)
    with pytest.raises(ArtifactError, match="the checkpoint absent cannot be read: No such file"):
        add(store, tmp_path / "absent", labels, name="pets", width_mult=0.1)


class Payload:
    """Unpickling it would write a file; loading a checkpoint must not."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch escaped",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": Payload()}, r"holds more than tensors and is not loaded, because that could run code"),
        ([1, 2], r"is not a state_dict"),
        ({"a": 1}, r"is not a state_dict"),
        ({"a": torch.zeros(1)}, r"tensors are missing"),
        ({"a": torch.zeros(1, dtype=torch.int64)}, r"tensor a is of type torch.int64"),
    ],
)
def test_pth_files_that_are_refused(
    content: object, message: str, labels: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match=message):
        add(store, tmp_path / "x.pth", labels, name="pets", width_mult=0.1)
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04 hello", b"\x80\x02}q\x00.", b"\x10" + b"\0" * 7 + b"{no json}"]
)
def test_files_that_are_no_checkpoint(content: bytes, labels: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        add(store, tmp_path / "x.pth", labels, name="pets", width_mult=0.1)
    assert "x.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_integers_in_safetensors(labels: Path, store: Path, tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.int8)}, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match="tensor a is of type I8, not a floating-point type"):
        add(store, tmp_path / "x.safetensors", labels, name="pets", width_mult=0.1)


def test_values_beyond_float32(state: State, labels: Path, store: Path, tmp_path: Path) -> None:
    state["classifier.1.bias"] = torch.tensor([1e300, 0, 0], dtype=torch.float64)
    save_torch_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match=r"classifier.1.bias holds values that are not finite"):
        add(store, tmp_path / "x.safetensors", labels, name="pets", width_mult=0.1)


def test_pth_needs_torch_and_safetensors_does_not(
    checkpoint: Path, state: State, labels: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "find_spec", lambda name: None)
    add(store, checkpoint, labels, name="pets", width_mult=0.1)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(MissingExtra, match=r"mobilenet-service\[torch\]"):
        add(store, tmp_path / "x.pth", labels, name="pets", width_mult=0.1)


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


def fail_with(code: int) -> Any:
    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


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
    command = [sys.executable, "-c", ADD, str(store), str(checkpoint), str(labels), "yes" if existing else ""]
    with subprocess.Popen(command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert list_models(store) == []
    write.remove_leftovers(store / "pets")  # what the next writer does first
    assert [entry.state for entry in list_models(store)] == (["ready"] if existing else [])
    found = add(store, checkpoint, labels, name="pets", width_mult=0.1, force=existing)
    assert found.labels == (("a", "b", "c") if existing else ("cat", "dog", "bird"))
    assert litter(store) == []
