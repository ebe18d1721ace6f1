"""The arrays of one forward pass, and predictions, class maps and embeddings made from them.

A runtime returns ``BatchOutputs``; the engine slices it into one ``ItemOutput`` per image; ``http`` and ``cli`` turn
that into predictions (probabilities, top-k, labels), class maps or an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Number of classes per image whose activation maps the forward pass computes.
MAPS_PER_ITEM = 5

#: Number of classes in an answer by default.
DEFAULT_TOP_K = 5

Float32 = NDArray[np.float32]

Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Head:
    """How logits become probabilities: softmax if one class is right, sigmoid if each may be or not."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    activation: Activation = "softmax"
    threshold: float | None = None  # of a sigmoid's probability: from there on a class is said to be in the image

    def __post_init__(self) -> None:
        if self.threshold is not None and not (self.activation == "sigmoid" and 0 <= self.threshold <= 1):
            raise ValueError("a threshold is between 0 and 1, and of a sigmoid")


SOFTMAX = Head()


class BatchOutputs(NamedTuple):
    """One forward pass over B images; float32, owned by the receiver (no view of a runtime's buffer).

    K = min(MAPS_PER_ITEM, num_classes); S = the side of the last feature map, 7 at 224.
    """

    logits: Float32  # (B, num_classes)
    embeddings: Float32  # (B, embedding_dim), the pooled features, not normalised
    top: NDArray[np.int64]  # (B, K) class indices by descending logit
    #: (B, K, S, S), first of the requested classes, then of those in ``top`` at the remaining indices. The mean of a
    #: map plus the class's bias is the logit.
    maps: Float32

    def items(self) -> list[ItemOutput]:
        """The outputs of each image."""
        normalizers = log_sum_exp(self.logits).tolist()
        return [ItemOutput(*parts) for parts in zip(*self, normalizers, strict=True)]


class ItemOutput(NamedTuple):
    """The outputs of one image."""

    logits: Float32  # (num_classes,)
    embedding: Float32  # (embedding_dim,)
    top: NDArray[np.int64]  # (K,)
    maps: Float32  # (K, S, S)
    log_sum_exp: float  # of the logits: the probability of class c is exp(logits[c] - log_sum_exp)


@dataclass(frozen=True, slots=True)
class Prediction:
    index: int
    label: str
    probability: np.float32


@dataclass(frozen=True, slots=True)
class JudgedPrediction(Prediction):
    reached: bool  # the head's threshold


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The evidence for a class in each cell of the image."""

    index: int
    label: str
    logit: np.float32
    probability: np.float32
    map: Float32  # (S, S); their mean plus the class's bias is the logit


def log_sum_exp(logits: Float32) -> NDArray[np.float64]:
    """Logarithm of the sum of exponentials over the last axis, shifted by the maximum so that it cannot overflow.

    Not finite if any logit is NaN or +∞.
    """
    peak = logits.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # ∞ - ∞ gives NaN, which the caller detects
        shifted = np.exp(logits - peak)
    # In float64: at a logit of 1000, float32 would give only four digits of the probability.
    result: NDArray[np.float64] = np.log(shifted.sum(axis=-1)) + peak[..., 0].astype(np.float64)
    return result


def classify(output: ItemOutput, labels: Sequence[str], top_k: int, head: Head = SOFTMAX) -> list[Prediction]:
    """The ``top_k`` (or all) classes by descending probability; ties by ascending index.

    If ``head`` has a threshold, each is a ``JudgedPrediction``.
    """
    logits = output.logits
    # The first few come from the forward pass; only more of them need a sort. It is stable, so that equal logits come
    # in index order whatever the batch was.
    best = output.top if top_k <= len(output.top) else np.argsort(-logits, kind="stable")
    best = best[:top_k]
    pairs = zip(best.tolist(), _probabilities(output, best, head), strict=True)
    if (least := head.threshold) is not None:
        return [JudgedPrediction(index, labels[index], value, bool(value >= least)) for index, value in pairs]
    return [Prediction(index, labels[index], probability) for index, probability in pairs]


def explain(
    output: ItemOutput, labels: Sequence[str], classes: Sequence[int], top_k: int, head: Head = SOFTMAX
) -> list[ClassMap]:
    """The maps of ``classes``, which must be those of the forward pass, or of the ``top_k`` strongest if it is empty.

    ``top_k`` is at most MAPS_PER_ITEM. A model with fewer classes gives fewer maps.
    """
    indices = np.asarray(classes, np.int64) if classes else output.top[:top_k]
    probabilities = _probabilities(output, indices, head)
    rows = zip(indices.tolist(), output.logits[indices], probabilities, output.maps, strict=False)
    return [ClassMap(index, labels[index], *row) for index, *row in rows]


def _probabilities(output: ItemOutput, indices: NDArray[np.int64], head: Head) -> Float32:
    exponents = output.logits[indices].astype(np.float64)
    # Of the sum over all classes, or over this class and its absence, whose logit is 0.
    exponents -= np.logaddexp(0, exponents) if head.activation == "sigmoid" else output.log_sum_exp
    result: Float32 = np.exp(exponents).astype(np.float32)
    return result


def normalize(embedding: Float32) -> Float32:
    """Scale to unit Euclidean length; a zero vector stays zero."""
    length = float(np.linalg.norm(embedding))
    return embedding if length == 0.0 else (embedding / np.float32(length)).astype(np.float32)
