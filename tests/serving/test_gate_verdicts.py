"""The gate's verdicts on changes of the real weights: what nobody wants is refused, what training changes passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.config import Settings
from service.errors import OperatorError
from service.model import artifact as artifacts
from service.model.artifact import LABELS, MANIFEST, WEIGHTS, Artifact
from service.serving.gate import Figures, Refused, compare, load_refusal, parity_photos
from service.serving.local import served_locally
from service.store.write import manifest_bytes
from tests.artifacts import rewrite

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

Weights = dict[str, NDArray[np.float32]]
HEAD, BIAS = "classifier.1.weight", "classifier.1.bias"
LAST, STEM = "features.18.0.weight", "features.0.0.weight"


def same(weights: Weights) -> Weights:
    return {}


def scaled(weights: Weights) -> Weights:
    """The last convolution, each weight by up to 5 %."""
    factors = np.random.default_rng(0).uniform(0.95, 1.05, weights[LAST].shape)
    return {LAST: (weights[LAST] * factors).astype(np.float32)}


def permuted(weights: Weights) -> Weights:
    order = np.random.default_rng(0).permutation(len(weights[BIAS]))
    return {HEAD: weights[HEAD][order], BIAS: weights[BIAS][order]}


def shifted(weights: Weights) -> Weights:
    """Labels one line too late, as with a class for the background."""
    return {HEAD: np.roll(weights[HEAD], 1, axis=0), BIAS: np.roll(weights[BIAS], 1)}


def untrained(weights: Weights) -> Weights:
    return {HEAD: np.random.default_rng(0).normal(0, 0.05, weights[HEAD].shape).astype(np.float32)}


def constant(weights: Weights) -> Weights:
    return {HEAD: np.zeros_like(weights[HEAD])}


def not_finite(weights: Weights) -> Weights:
    broken = weights[LAST].copy()
    broken.flat[0] = np.nan
    return {LAST: broken}


def overflow(weights: Weights) -> Weights:
    return {HEAD: np.full_like(weights[HEAD], 3e38)}


def blue_first(weights: Weights) -> Weights:
    """Trained on BGR."""
    return {STEM: weights[STEM][:, ::-1].copy()}


@pytest.mark.parametrize(
    ("change", "preprocessing", "reason"),
    [
        (same, {}, None),
        (scaled, {}, None),
        (same, {"resize_size": 224}, None),
        (permuted, {}, "disagreement"),
        (shifted, {}, "disagreement"),
        (untrained, {}, "disagreement"),
        (constant, {}, "constant"),
        (not_finite, {}, "not_finite"),
        (overflow, {}, "not_finite"),
        (blue_first, {}, "disagreement"),
        (same, {"rotate_180": False}, "disagreement"),
        (same, {"resize_size": 512, "crop_size": 448}, "slower"),
    ],
    ids=[
        *("same", "last convolution", "another crop", "permuted", "shifted labels", "untrained head", "constant"),
        *("NaN", "overflow", "BGR", "upside down", "four times the pixels"),
    ],
)
async def test_a_change_of_the_real_weights_has_its_verdict(
    real_artifact: Artifact,
    tmp_path: Path,
    report: Callable[[str], None],
    request: pytest.FixtureRequest,
    change: Callable[[Weights], Weights],
    preprocessing: dict[str, Any],
    reason: str | None,
) -> None:
    candidate = variant(real_artifact, tmp_path, change, preprocessing)
    settings = Settings(device="cpu", runtime="openvino")
    photos = parity_photos(tmp_path, candidate.manifest.name)
    found, figures, sentence = None, Figures(), ""
    async with served_locally(settings, real_artifact, lambda reason: None) as current:
        try:
            async with served_locally(settings, candidate, lambda reason: None) as served:
                figures = await compare(served, current, photos, (), pause_s=0)
                sentence = figures.sentence
        except OperatorError as error:
            refused = error if isinstance(error, Refused) else load_refusal(error)
            found, figures, sentence = refused.reason, refused.figures, str(refused)
    numbers = (figures.agreement, figures.cosine, figures.cost_ratio)
    shown = " | ".join("-" if number is None else f"{number:.2f}" for number in numbers)
    report(f"{request.node.callspec.id} | {found or 'passes'} | {shown} | {sentence}")
    assert found == reason


def variant(
    original: Artifact, store: Path, change: Callable[[Weights], Weights], preprocessing: dict[str, Any]
) -> Artifact:
    """``original``'s version "2" in ``store``."""
    directory = store / original.manifest.name / "2"
    directory.mkdir(parents=True)
    for name in (LABELS, WEIGHTS):
        shutil.copyfile(original.directory / name, directory / name)
    manifest = original.manifest.model_copy(
        update={"version": "2", "preprocessing": original.manifest.preprocessing.model_copy(update=preprocessing)}
    )
    (directory / MANIFEST).write_bytes(manifest_bytes(manifest))
    made = artifacts.load(store, original.manifest.name, "2")
    weights = made.load_weights()
    rewrite(made, weights | change(weights))
    return artifacts.load(store, original.manifest.name, "2")
