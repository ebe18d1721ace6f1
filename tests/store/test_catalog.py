"""What ``list_models`` and ``verify`` say about a store, the committed one included."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import ArtifactError
from service.model import artifact
from service.model.artifact import WeightsSource
from service.store.catalog import list_models, verify
from service.store.write import manifest_bytes
from tests.artifacts import make_artifact
from tests.store.conftest import unpulled

COMMITTED = Path(__file__).parents[2] / "model_store"


def test_every_state(tmp_path: Path) -> None:
    make_artifact(tmp_path, name="a-ready", width_mult=0.1)
    unpulled(tmp_path, WeightsSource(kind="torchvision", origin="tests"))
    unpulled_with_digest = make_artifact(tmp_path, name="z", version="1", width_mult=0.1)
    (unpulled_with_digest.directory / artifact.WEIGHTS).unlink()
    for version, name in (("2", artifact.WEIGHTS), ("3", artifact.LABELS), ("4", artifact.MANIFEST)):
        path = make_artifact(tmp_path, name="z", version=version, width_mult=0.1).directory / name
        path.write_bytes(path.read_bytes()[:-2])
    (tmp_path / "z" / "5").mkdir()
    is_directory = make_artifact(tmp_path, name="z", version="6", width_mult=0.1).directory / artifact.WEIGHTS
    is_directory.unlink()
    is_directory.mkdir()
    entries = {entry.reference: entry for entry in list_models(tmp_path)}
    assert {reference: entry.state for reference, entry in entries.items()} == {
        "a-ready/1": "ready",
        "tiny/1": "not pulled",
        "z/1": "not pulled",
        "z/2": "corrupt",
        "z/3": "corrupt",
        "z/4": "corrupt",
        "z/5": "corrupt",
        "z/6": "corrupt",
    }
    assert entries["a-ready/1"].detail == ""
    assert entries["tiny/1"].detail.endswith("run: mobilenet-service models pull tiny/1")
    assert entries["z/2"].manifest is not None
    assert entries["z/4"].manifest is None
    for entry in entries.values():
        if entry.state != "ready":
            assert entry.reference in entry.detail
            with pytest.raises(ArtifactError):
                verify(tmp_path, entry.name, entry.version)


def test_versions_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for version in ("10", "9", "1.10", "1.9", "beta", "1"):
        (tmp_path / "m" / version).mkdir(parents=True)
    assert [entry.version for entry in list_models(tmp_path)] == ["1", "1.9", "1.10", "9", "10", "beta"]


def test_files_and_hidden_directories_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    (tmp_path / ".git" / "1").mkdir(parents=True)
    (tmp_path / "m" / ".tmp-x").mkdir(parents=True)
    (tmp_path / "m" / "notes").touch()
    assert list_models(tmp_path) == []


def test_no_such_store(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot be read: No such file or directory; see --model-store"):
        list_models(tmp_path / "absent")


def test_listing_changes_nothing(tmp_path: Path) -> None:
    found = make_artifact(tmp_path, width_mult=0.1)
    before = sorted((str(path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    list_models(tmp_path)
    verify(tmp_path, "tiny", "1")
    assert sorted((str(path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    assert found.directory.exists()


def committed() -> list[str]:
    return sorted(path.parent.parent.name for path in COMMITTED.glob("*/1/model.json"))


@pytest.mark.parametrize("name", committed())
def test_committed_manifests(name: str) -> None:
    """They load, stand as the store writes them and hold no figure that is not so."""
    found = artifact.load(COMMITTED, name, "1")
    on_disk = (found.directory / artifact.MANIFEST).read_bytes()
    assert on_disk == manifest_bytes(found.manifest)
    assert found.manifest.measured["parameters"] == found.network.parameter_count()
    assert found.manifest.measured["multiply_adds_224"] == found.network.multiply_adds(224)


@pytest.mark.extra
def test_committed_labels_are_torchvisions() -> None:
    from torchvision.models import MobileNet_V2_Weights

    for weights in MobileNet_V2_Weights:
        for name in committed():
            assert list(artifact.load(COMMITTED, name, "1").labels) == weights.meta["categories"]


@pytest.mark.extra
@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "IMAGENET1K_V2"])
def test_torchvision_manifests_are_torchvisions(name: str) -> None:
    from torchvision.models import MobileNet_V2_Weights

    assert name in MobileNet_V2_Weights.__members__
    weights = MobileNet_V2_Weights[name]
    manifest = artifact.load(COMMITTED, f"mobilenet_v2_{name.lower()}", "1").manifest
    transform = weights.transforms()
    assert manifest.source.url == weights.url
    assert manifest.source.sha256_prefix == weights.url.rsplit("-", 1)[1].removesuffix(".pth")
    assert [manifest.preprocessing.resize_size] == transform.resize_size
    assert [manifest.preprocessing.crop_size] == transform.crop_size
    assert manifest.preprocessing.interpolation == transform.interpolation.value
    assert list(manifest.preprocessing.mean) == transform.mean
    assert list(manifest.preprocessing.std) == transform.std
    assert not manifest.preprocessing.rotate_180
