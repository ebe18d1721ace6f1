"""What decides before a new version is compared: memory, loading, and which photos it will be tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service import runtimes
from service.engine import warmup
from service.errors import OperatorError
from service.model import artifact as artifacts
from service.model.artifact import LABELS, MANIFEST, WEIGHTS, Artifact, FileDigest
from service.model.runtime import RuntimeOptions
from service.serving import gate
from service.serving.gate import Refused, check_memory, load_refusal, parity_photos
from tests.artifacts import make_artifact, rewrite
from tests.running import png

MiB = 2**20


@pytest.mark.parametrize(("left", "passes"), [(40, False), (90, False), (92, True)])
def test_a_version_that_does_not_fit_into_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int, passes: bool
) -> None:
    monkeypatch.setattr(gate, "free_memory", lambda: left * MiB)
    weights = FileDigest(sha256="0" * 64, bytes=14_180_952)
    small = make_artifact(tmp_path, name="pets", crop_size=32)
    large = replace(small, manifest=small.manifest.model_copy(update={"weights": weights}))
    if passes:
        check_memory(large, runners=2)
        return
    with pytest.raises(Refused) as caught:
        check_memory(large, runners=2)
    assert (caught.value.reason, str(caught.value)) == ("memory", f"pets/1 needs 91 MiB of memory, {left} are left")


def _missing(made: Artifact) -> None:
    (made.directory / MANIFEST).unlink()


def _no_weights(made: Artifact) -> None:
    (made.directory / WEIGHTS).unlink()


def _damaged(made: Artifact) -> None:
    (made.directory / WEIGHTS).write_bytes(b"damaged")


def _other_labels(made: Artifact) -> None:
    (made.directory / LABELS).write_text("other")


def _head(value: float) -> Callable[[Artifact], None]:
    """A classifier whose weights are all ``value``, without biases."""

    def change(made: Artifact) -> None:
        head = f"{made.network.classifier}."
        weights = made.load_weights()
        replaced = {head + "weight": np.full_like(weights[head + "weight"], value)}
        rewrite(made, weights | replaced | {head + "bias": np.zeros(made.network.num_classes, np.float32)})

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_missing, "missing"),
        (_no_weights, "missing"),
        (_damaged, "corrupt"),
        (_other_labels, "corrupt"),
        (_head(np.nan), "not_finite"),
        (_head(3e38), "not_finite"),
        (_head(0.0), "constant"),
    ],
    ids=["no manifest", "no weights", "damaged", "labels", "NaN", "overflow", "constant"],
)
def test_a_version_that_cannot_be_loaded_has_a_reason(
    tmp_path: Path, damage: Callable[[Artifact], None], reason: str
) -> None:
    damage(make_artifact(tmp_path, crop_size=32))
    with pytest.raises(OperatorError) as caught:
        warmup.check(runtimes.create(artifacts.load(tmp_path, "tiny", "1"), RuntimeOptions()), warmup.probe_image(32))
    refused = load_refusal(caught.value)
    assert (refused.reason, str(refused)) == (reason, str(caught.value))


def test_another_failure_to_load_is_told_as_it_is() -> None:
    refused = load_refusal(OperatorError("precision=fp16 is not available on a CPU; choose fp32, bf16 or int8"))
    assert (refused.reason, str(refused).partition(";")[0]) == ("failed", "precision=fp16 is not available on a CPU")


def test_an_operators_photos_go_before_the_built_in_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    built_in = parity_photos(tmp_path, "pets")
    assert len(built_in) == len(set(built_in)) == 20
    folder = tmp_path / "pets/.parity"
    folder.mkdir(parents=True)
    (folder / "broken.jpg").write_bytes(b"no photo")
    assert parity_photos(tmp_path, "pets") == built_in
    assert "left out" in caplog.text
    (folder / "below").mkdir()
    for marker, name in enumerate(("a.png", "below/b.png")):
        (folder / name).write_bytes(png(marker))
    assert sorted(parity_photos(tmp_path, "pets")) == sorted([png(0), png(1)])


def test_of_many_photos_always_the_same_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pets/.parity"
    folder.mkdir(parents=True)
    for marker in range(100):
        (folder / f"{marker:03}.png").write_bytes(png(marker, 32))
    taken = parity_photos(tmp_path, "pets")
    assert len(set(taken)) == 64
    assert taken == parity_photos(tmp_path, "pets")
    assert set(taken) != {png(marker, 32) for marker in range(64)}, "not those of the first classes alone"
    monkeypatch.setattr(gate, "_MAX_BYTES", sum(map(len, taken[:10])))
    assert parity_photos(tmp_path, "pets") == taken[:10]
