"""int8: what ``models quantize`` makes is verified at load, read without NNCF, and close to fp32."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.errors import ArtifactError, MissingExtra, OperatorError
from service.model import artifact
from service.model.artifact import Artifact
from service.model.runtime import RuntimeOptions
from service.runtimes import create
from service.runtimes.openvino.quantization import kept_in_fp32
from service.runtimes.openvino.recipes import RECIPES
from service.store import write
from service.store.catalog import list_models, verify
from service.store.quantize import quantize
from tests.artifacts import make_artifact
from tests.runtimes.conftest import images_for, least_cosine, python
from tests.store.conftest import change_manifest, litter

pytestmark = pytest.mark.extra

#: Three blocks, one with a shortcut.
ROWS = [(1, 8, 1, 1), (4, 16, 2, 2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quantised ``store`` and the ``photos`` it was calibrated on."""
    root = tmp_path_factory.mktemp("int8")
    tiny = make_artifact(root / "store", crop_size=64, resize_size=64, inverted_residual_setting=ROWS)
    (root / "photos").mkdir()
    for index, image in enumerate(images_for(tiny, 8)):
        Image.fromarray(image).save(root / "photos" / f"{index}_photo.png")
    quantize(root / "store", "tiny", "1", images=root / "photos", count=12)
    return root


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of the quantised store, to be damaged."""
    shutil.copytree(made / "store", tmp_path / "store")
    return tmp_path / "store"


def load(store: Path) -> Artifact:
    return artifact.load(store, "tiny", "1")


INT8 = RuntimeOptions("openvino", "cpu", "int8", max_batch=4)


def test_answers_like_fp32_but_not_equally(made: Path) -> None:
    tiny = load(made / "store")
    images = images_for(tiny, 4, seed=1)
    coarse = create(tiny, INT8).run(images)
    exact = create(tiny, RuntimeOptions("openvino", "cpu", max_batch=4)).run(images)
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = list(zip(coarse, exact, strict=True))
    for got, wanted in pairs:
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert least_cosine(coarse.embeddings, exact.embeddings) > 0.98
    assert np.abs(exact.embeddings - coarse.embeddings).max() > 1e-4
    # The heads are fp32: what holds between maps and logits holds exactly.
    bias = tiny.load_weights()["classifier.1.bias"]
    means = coarse.maps.mean(axis=(2, 3)) + bias[coarse.top]
    np.testing.assert_allclose(means, np.take_along_axis(coarse.logits, coarse.top, 1), rtol=1e-4, atol=1e-4)
    assert list(coarse.top[:, 0]) == list(coarse.logits.argmax(axis=1))


def test_serving_needs_no_nncf(made: Path) -> None:
    code = """
import sys
sys.modules["nncf"] = sys.modules["torch"] = None
from pathlib import Path
import numpy as np
from service.model import artifact
from service.model.runtime import RuntimeOptions
from service.runtimes import create
tiny = artifact.load(Path(sys.argv[1]), "tiny", "1")
model = create(tiny, RuntimeOptions(precision="int8"))
print(model.precision, model.run(np.zeros((1, 64, 64, 3), np.uint8)).logits.shape)
"""
    assert python(code, str(made / "store")) == "int8 (1, 10)\n"


def test_the_manifest_says_how_and_from_what(made: Path) -> None:
    tiny = load(made / "store")
    entry = tiny.manifest.derived["int8"]
    assert entry.made_from == tiny.manifest.fingerprint()
    assert entry.calibration == "12 images from 8 of the operator's photos"
    assert [listed.derived for listed in list_models(made / "store")] == [("int8",)]
    verify(made / "store", "tiny", "1")


def test_the_same_photos_make_the_same_files(store: Path, made: Path) -> None:
    before = load(store).load_derived("int8")
    quantize(store, "tiny", "1", images=made / "photos", count=12)
    assert load(store).load_derived("int8") == before


@pytest.mark.parametrize("name", ["int8.xml", "int8.bin"])
def test_missing_and_damaged_files_are_refused(store: Path, name: str) -> None:
    path = store / "tiny/1" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    remedy = "run: mobilenet-service models quantize tiny/1"
    with pytest.raises(ArtifactError, match=f"{name} is corrupt .*; {remedy}"):
        create(load(store), INT8)
    with pytest.raises(ArtifactError, match="corrupt"):
        verify(store, "tiny", "1")
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing; {remedy}"):
        create(load(store), INT8)
    assert list_models(store)[0].derived == ("int8: unusable, see models verify",)


@pytest.mark.parametrize("changed", ["weights", "preprocessing"])
def test_a_graph_of_other_weights_or_pixels_is_refused(store: Path, changed: str) -> None:
    found = load(store)
    update = {"weights": {"sha256": "0" * 64}, "preprocessing": {"std": (0.5, 0.5, 0.5)}}[changed]
    change_manifest(found, **{changed: getattr(found.manifest, changed).model_copy(update=update)})
    with pytest.raises(ArtifactError, match="from other weights; run: mobilenet-service models quantize"):
        create(load(store), INT8)


def test_a_graph_that_was_never_made(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no int8 graph yet; run: mobilenet-service models quantize tiny/1"):
        create(make_artifact(tmp_path, crop_size=64, inverted_residual_setting=ROWS), INT8)


def test_names_the_extra(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtra, match=r"needs the extra 'int8'"):
        quantize(made / "store", "tiny", "1", images=made / "photos")


def test_an_interrupted_run_changes_nothing(store: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "manifest_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize(store, "tiny", "1", images=made / "photos", count=4)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_a_full_disk_changes_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_file = write.create_file

    def fail_second(path: Path, data: bytes) -> None:
        if data == b"second":
            raise OSError(28, "No space left on device")
        create_file(path, data)

    monkeypatch.setattr(write, "create_file", fail_second)
    old = (store / "tiny/1/int8.xml").read_bytes()
    with pytest.raises(OSError, match="No space"):
        write.replace_files(store / "tiny/1", {"int8.xml": b"first", "int8.bin": b"second"})
    assert (store / "tiny/1/int8.xml").read_bytes() == old
    assert [name for name in litter(store) if "tmp" in name] == []


def test_photos_that_cannot_be_used(made: Path, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no images in"):
        quantize(made / "store", "tiny", "1", images=tmp_path)
    (tmp_path / "bad.jpg").write_bytes(b"no")
    with pytest.raises(OperatorError, match=r"bad\.jpg: this is text"):
        quantize(made / "store", "tiny", "1", images=tmp_path)


def test_what_recipes_leave_alone(made: Path) -> None:
    net = load(made / "store").network
    sums = [f"{block.convs[-1].conv}/sum" for block in net.blocks if block.residual]
    assert len(sums) == 1
    assert kept_in_fp32(RECIPES["fast"], net) == sums
    assert kept_in_fp32(RECIPES["close"], net) == ["features.0.0", "features.1.conv.0.0", "features.1.conv.1", *sums]
