"""What the service answers, typed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobilenet_client.errors import ServiceError

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prediction:
    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Classification:
    """The strongest classes of one image, by falling probability."""

    predictions: tuple[Prediction, ...]
    warnings: tuple[str, ...]
    model: str
    version: str


@dataclass(frozen=True, eq=False)
class Embedding:
    """The feature vector of one image. Vectors may be compared if their ``embedding_id`` is the same."""

    vector: Vector
    embedding_id: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Feature vectors of many images: ``vectors`` is (N, dim), and the row of an image that failed is NaN."""

    vectors: Vector
    errors: dict[int, ServiceError]
    embedding_id: str | None
    warnings: dict[int, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class ClassMap:
    """How strongly each cell of the crop speaks for a class, from the top left."""

    index: int
    label: str
    logit: float
    probability: float
    map: Vector


@dataclass(frozen=True, eq=False)
class Explanation:
    """Class maps of one image. They cover ``crop`` (x, y, width, height) of the upright ``photo`` (width, height)."""

    maps: tuple[ClassMap, ...]
    photo: tuple[int, int]
    crop: tuple[float, float, float, float]
    embedding: Vector | None
    warnings: tuple[str, ...]
    model: str
    version: str
