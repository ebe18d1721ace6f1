"""From the arrays of one forward pass to what a reply contains.

A runtime returns ``BatchOutputs``; the engine slices it into one ``ItemOutput`` per image; the HTTP layer and
the command line turn that into predictions (softmax, top-k, labels) or an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: How many classes the runtime draws an activation map for, in the same forward pass.
MAPS_PER_ITEM = 5

Float32 = NDArray[np.float32]


class BatchOutputs(NamedTuple):
    """One forward pass over B images; float32, owned by the receiver (no view of a runtime's buffer).

    K = min(MAPS_PER_ITEM, num_classes); S = the side of the last feature map, 7 at 224.
    """

    logits: Float32  # (B, num_classes)
    embeddings: Float32  # (B, embedding_dim), the pooled features, not normalised
    top: NDArray[np.int64]  # (B, K) class indices by falling logit
    maps: Float32  # (B, K, S, S); mean over S×S plus the class's bias equals its logit

    def item(self, index: int) -> ItemOutput:
        return ItemOutput(self.logits[index], self.embeddings[index], self.top[index], self.maps[index])


class ItemOutput(NamedTuple):
    """One image's share of a ``BatchOutputs``."""

    logits: Float32  # (num_classes,)
    embedding: Float32  # (embedding_dim,)
    top: NDArray[np.int64]  # (K,)
    maps: Float32  # (K, S, S)


@dataclass(frozen=True, slots=True)
class Prediction:
    index: int
    label: str
    probability: float


def softmax(logits: Float32) -> Float32:
    """Softmax over the last axis, shifted by the maximum so that it cannot overflow."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Float32 = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result


def classify(logits: Float32, labels: Sequence[str], top_k: int) -> list[Prediction]:
    """The ``top_k`` most probable classes, by falling probability, ties by rising index.

    ``logits`` is (num_classes,); a ``top_k`` above num_classes gives all of them.
    """
    # A stable sort of the negated logits puts equal ones in index order, whatever the batch was.
    count = min(top_k, logits.shape[0])
    if count < logits.shape[0]:
        threshold = -np.partition(-logits, count - 1)[count - 1]
        candidates = np.flatnonzero(logits >= threshold)
    else:
        candidates = np.arange(logits.shape[0])
    order = candidates[np.argsort(-logits[candidates], kind="stable")][:count]
    probabilities = softmax(logits)
    return [Prediction(int(i), labels[i], float(probabilities[i])) for i in order]


def normalize(embedding: Float32) -> Float32:
    """Scale to unit Euclidean length; a zero vector stays zero."""
    length = float(np.linalg.norm(embedding))
    return embedding if length == 0.0 else (embedding / np.float32(length)).astype(np.float32)
