"""Logits to predictions, against formulas written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.model.outputs import BatchOutputs, Head, ItemOutput, classify, explain, log_sum_exp, normalize

LOGITS = [0.5, 3.0, -1.0, 2.0, 9.0, -4.0, 0.0, 1.0, 7.0, 6.0]
LABELS = tuple(f"class {index}" for index in range(10))


def item(logits: list[float]) -> ItemOutput:
    row = np.array([logits], np.float32)
    top = np.argsort(-row, axis=1, kind="stable")[:, :5]
    return BatchOutputs(row, np.zeros((1, 4), np.float32), top, np.zeros((1, 5, 1, 1), np.float32)).items()[0]


@pytest.mark.parametrize("top_k", [1, 5, 6, 10, 100])
def test_classes_by_falling_probability(top_k: int) -> None:
    predictions = classify(item(LOGITS), LABELS, top_k)
    order = [4, 8, 9, 1, 3, 7, 0, 6, 2, 5][:top_k]
    assert [p.index for p in predictions] == order
    assert [p.label for p in predictions] == [f"class {index}" for index in order]
    total = sum(math.exp(value) for value in LOGITS)
    for p in predictions:
        assert p.probability == pytest.approx(math.exp(LOGITS[p.index]) / total, rel=1e-6)


@pytest.mark.parametrize("top_k", [3, 10])
def test_equal_logits_come_in_index_order(top_k: int) -> None:
    predictions = classify(item([1.0] * 10), LABELS, top_k)
    assert [p.index for p in predictions] == list(range(top_k))
    assert all(p.probability == pytest.approx(0.1) for p in predictions)


def test_maps_of_the_strongest_or_of_the_classes_asked_for() -> None:
    output = item(LOGITS)._replace(maps=np.arange(5, dtype=np.float32).reshape(5, 1, 1))
    strongest = explain(output, LABELS, (), 3)
    assert [(m.index, m.label, float(m.logit), float(m.map[0, 0])) for m in strongest] == [
        (4, "class 4", 9.0, 0.0), (8, "class 8", 7.0, 1.0), (9, "class 9", 6.0, 2.0)
    ]  # fmt: skip
    assert [m.probability for m in strongest] == [p.probability for p in classify(output, LABELS, 3)]
    asked = explain(output, LABELS, (5, 4), 3)
    assert [(m.index, float(m.logit), float(m.map[0, 0])) for m in asked] == [(5, -4.0, 0.0), (4, 9.0, 1.0)]
    assert asked[1].probability == strongest[0].probability


def test_large_logits_do_not_overflow() -> None:
    (first, *_) = classify(item([1000.0, 999.0] + [-1000.0] * 8), LABELS, 2)
    assert first.probability == pytest.approx(1 / (1 + math.exp(-1)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_shows_in_the_sum(bad: float) -> None:
    logits = np.zeros((1, 10), np.float32)
    logits[0, 7] = bad
    assert not np.isfinite(log_sum_exp(logits)).any()


def test_normalize() -> None:
    unit = normalize(np.array([3.0, 4.0], np.float32))
    np.testing.assert_allclose(unit, [0.6, 0.8])
    assert unit.dtype == np.float32
    np.testing.assert_array_equal(normalize(np.zeros(3, np.float32)), np.zeros(3))


SIGMOID = Head("sigmoid")


def test_a_sigmoids_probabilities_stand_each_for_itself() -> None:
    output = item(LOGITS)
    predictions = classify(output, LABELS, 10, SIGMOID)
    assert [p.index for p in predictions] == [4, 8, 9, 1, 3, 7, 0, 6, 2, 5]
    for p in predictions:
        assert p.probability == pytest.approx(1 / (1 + math.exp(-LOGITS[p.index])), rel=1e-6)
    output = output._replace(maps=np.zeros((5, 1, 1), np.float32))
    assert [m.probability for m in explain(output, LABELS, (), 3, SIGMOID)] == [p.probability for p in predictions[:3]]


def test_a_threshold_is_reached_from_its_value_on() -> None:
    predictions = classify(item(LOGITS), LABELS, 10, Head("sigmoid", 0.5))
    assert [getattr(p, "reached", None) for p in predictions] == [True] * 8 + [False] * 2  # sigmoid(0) is 0.5
    assert not hasattr(classify(item(LOGITS), LABELS, 1, SIGMOID)[0], "reached")


def test_large_logits_of_a_sigmoid_do_not_overflow() -> None:
    first, *_, last = classify(item([1000.0] + [0.0] * 8 + [-1000.0]), LABELS, 10, SIGMOID)
    assert (float(first.probability), float(last.probability)) == (1.0, 0.0)
