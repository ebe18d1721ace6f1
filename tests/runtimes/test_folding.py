"""Rounding to half precision, and that the part of its error that can be known in advance is taken back."""

from __future__ import annotations

import numpy as np
import pytest

from service.model.artifact import Artifact
from service.runtimes.folding import Float64, Folded, fold, relu6_mean, round_to


def test_bf16_rounds_to_nearest_even() -> None:
    values = np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, 1.0 + 2**-7 - 2**-20, -1.0 - 2**-8, 0.0, -3e38, 1e-30])
    rounded = round_to(values, "bf16")
    assert rounded[:6].tolist() == [1.0, 1.0, 1.0 + 2**-6, 1.0 + 2**-7, -1.0, 0.0]
    assert np.abs(rounded[6:] / values[6:] - 1).max() <= 2**-8
    assert not (rounded.view(np.uint32) & 0xFFFF).any()


@pytest.mark.extra
def test_bf16_rounds_as_torch_does() -> None:
    import torch

    values = np.random.default_rng(0).normal(0, 1, 1000)
    expected = torch.tensor(values, dtype=torch.float32).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(round_to(values, "bf16"), expected)


def test_fp16_and_fp32() -> None:
    values = np.array([1 / 3])
    assert round_to(values, "fp16")[0] == np.float16(1 / 3)
    assert round_to(values, "fp32")[0] == np.float32(1 / 3)


def test_mean_of_relu6_of_a_normal_variable() -> None:
    centers = np.array([0.0, 1.0, 7.0, -4.0, 3.0, 2.0, 9.0])
    spreads = np.array([1.0, 0.5, 2.0, 1.0, 4.0, 0.0, 0.0])
    samples = np.random.default_rng(0).normal(centers, spreads, (400_000, 7))
    expected = np.clip(samples, 0, 6).mean(axis=0)
    np.testing.assert_allclose(relu6_mean(centers, spreads), expected, atol=0.02)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_bias_takes_back_what_rounding_adds_on_average(tiny: Artifact, precision: str) -> None:
    net, weights = tiny.network, tiny.load_weights()
    exact, rounded = (fold(net, weights, name, std=(1, 1, 1)) for name in ("fp32", precision))
    depthwise = net.blocks[1].convs[1]
    before = net.blocks[1].convs[0]
    mean = relu6_mean(
        weights[f"{before.norm}.bias"].astype(np.float64), weights[f"{before.norm}.weight"].astype(np.float64)
    )

    def output(layer: Folded) -> Float64:
        result: Float64 = layer.kernel.astype(np.float64).sum(axis=(1, 2, 3)) * mean + layer.bias
        return result

    assert not np.array_equal(exact[depthwise.conv].kernel, rounded[depthwise.conv].kernel)
    np.testing.assert_allclose(output(rounded[depthwise.conv]), output(exact[depthwise.conv]), atol=1e-5)
