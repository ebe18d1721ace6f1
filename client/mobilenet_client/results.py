"""What is asked of one image, and the answers, typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray

from mobilenet_client.errors import EmbeddingMismatch, ServiceError

T = TypeVar("T")
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prediction:
    index: int
    label: str
    probability: float
    reached: bool | None = None  # the threshold, if the model has one


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


@dataclass
class Question(Generic[T]):
    """``read`` turns an answer into the result; LookupError, TypeError or ValueError if it is not the service's."""

    path: str
    read: Callable[[httpx.Response], T]
    headers: dict[str, str] = field(default_factory=dict)


def classify(top_k: int) -> Question[Classification]:
    def read(answer: httpx.Response) -> Classification:
        result, told = _only_result(answer)
        found = (
            Prediction(each["index"], each["label"], each["probability"], each.get("reached"))
            for each in result["predictions"]
        )
        return Classification(tuple(found), **told)

    return Question(f"/classify?top_k={top_k}", read)


def explain(top_k: int | None, classes: Iterable[int] | None, embedding: bool) -> Question[Explanation]:
    def read(answer: httpx.Response) -> Explanation:
        result, told = _only_result(answer)
        maps = tuple(
            ClassMap(each["index"], each["label"], each["logit"], each["probability"], _vector(each["map"]))
            for each in result["maps"]
        )
        photo, (x, y, width, height) = result["photo"], (result["crop"][name] for name in ("x", "y", "width", "height"))
        vector = _vector(result["embedding"]) if embedding else None
        return Explanation(maps, (photo["width"], photo["height"]), (x, y, width, height), vector, **told)

    named = None if classes is None else ",".join(map(str, classes))
    parameters = {"top_k": top_k, "class": named, "embedding": embedding or None}
    given = httpx.QueryParams({name: value for name, value in parameters.items() if value is not None})
    return Question(f"/explain?{given}", read)


def _only_result(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one image's result, and what every result is told with it."""
    document = answer.json()
    (result,) = document["results"]
    warnings = (*document.get("warnings", ()), *result["warnings"])
    return result, {"warnings": warnings, "model": document["model"], "version": document["version"]}


def _vector(numbers: list[Any]) -> Vector:
    return np.array(numbers, np.float32)


class Embed(Question[Embedding]):
    """All vectors that one of these reads come from the same weights: those asked for, or the first answer's."""

    def __init__(self, normalize: bool, embedding_id: str | None) -> None:
        super().__init__(f"/embed?normalize={normalize}".lower(), self._read, {"Accept": "application/octet-stream"})
        self.embedding_id, self._bound = embedding_id, embedding_id is not None
        if embedding_id is not None:
            self.headers["Embedding-Id"] = embedding_id

    def _read(self, answer: httpx.Response) -> Embedding:
        found = answer.headers.get("Embedding-Id")
        if not self._bound:
            self.embedding_id, self._bound = found, True
            self.headers |= {"Embedding-Id": found} if found else {}
        if found != self.embedding_id:  # by a service without the header, or asked before the first answer was there
            detail = f"the vector is by {found or 'unnamed weights'}, not by {self.embedding_id or 'unnamed weights'}"
            error = EmbeddingMismatch(412, "Embedding mismatch", detail, answer.headers.get("X-Request-Id"))
            error.embedding_id, error.requested = found, self.embedding_id
            raise error
        count, first = int(answer.headers.get("X-Warning-Count", 0)), answer.headers.get("X-Warning")
        warnings = () if first is None else (first,) if count < 2 else (first, f"and {count - 1} more")
        return Embedding(np.frombuffer(answer.content, "<f4"), found, warnings)
