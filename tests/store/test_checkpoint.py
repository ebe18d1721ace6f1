"""The checkpoints that ``add`` reads: every way to save a state_dict, and nothing that could run code."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file as save_torch_file

from service import errors
from service.errors import ArtifactError, MissingExtra
from service.model.artifact import Artifact
from service.store.add import add
from service.store.catalog import verify
from tests.store.conftest import State, litter


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


Save = Callable[[State, Path], None]


@pytest.mark.parametrize(
    "save",
    [
        save_torch_file,
        torch.save,
        lambda state, path: torch.save({"model": state, "epoch": 3, "optimizer": {"lr": 0.1}}, path),  # a script's
        lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),  # Lightning
        lambda state, path: torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path),  # DDP
    ],
)
def test_every_way_to_save_a_state_dict(
    save: Save, state: State, original: Artifact, labels: Path, store: Path, tmp_path: Path
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


@pytest.mark.parametrize("save", [save_torch_file, torch.save])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(
    save: Save, kind: torch.dtype, state: State, labels: Path, store: Path, tmp_path: Path
) -> None:
    converted = {name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save(converted, tmp_path / "mine.bin")
    tensors = add(store, tmp_path / "mine.bin", labels, name="pets", width_mult=0.1).load_weights()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, converted[name].float().numpy())


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
        ({"a": torch.zeros(1)}, r"is no MobileNetV2 .*: its first tensor is a"),
        ({}, r"is no MobileNetV2 .*: it has no tensors"),
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


def test_values_beyond_float32(state: State, labels: Path, store: Path, tmp_path: Path) -> None:
    state["classifier.1.bias"] = torch.tensor([1e300, 0, 0], dtype=torch.float64)
    save_torch_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match=r"classifier.1.bias holds values that are not finite"):
        add(store, tmp_path / "x.safetensors", labels, name="pets", width_mult=0.1)


def test_pth_needs_torch_and_safetensors_does_not(
    checkpoint: Path, state: State, labels: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    add(store, checkpoint, labels, name="pets", width_mult=0.1)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(MissingExtra, match=r"needs the extra 'torch'"):
        add(store, tmp_path / "x.pth", labels, name="pets", width_mult=0.1)
