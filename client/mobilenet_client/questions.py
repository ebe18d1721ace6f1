"""What is asked of one image: the path, the headers, and how the answer is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import httpx
import numpy as np

from mobilenet_client.errors import EmbeddingMismatch
from mobilenet_client.results import Classification, ClassMap, Embedding, Explanation, Prediction, Vector

T = TypeVar("T")


class Question(Generic[T]):
    def __init__(self, path: str, **headers: str) -> None:
        self.path = path
        self.headers = headers

    def read(self, answer: httpx.Response) -> T:
        """The result; ValueError, LookupError or TypeError if it is no answer of the service."""
        raise NotImplementedError


class Classify(Question[Classification]):
    def __init__(self, top_k: int) -> None:
        super().__init__(f"/classify?top_k={top_k}")

    def read(self, answer: httpx.Response) -> Classification:
        result, told = _only_result(answer)
        return Classification(tuple(Prediction(**each) for each in result["predictions"]), **told)


class Explain(Question[Explanation]):
    def __init__(self, top_k: int | None, classes: Iterable[int] | None, embedding: bool) -> None:
        named = None if classes is None else ",".join(map(str, classes))
        parameters = {"top_k": top_k, "class": named, "embedding": "true" if embedding else None}
        given = {name: value for name, value in parameters.items() if value is not None}
        super().__init__(f"/explain?{httpx.QueryParams(given)}")

    def read(self, answer: httpx.Response) -> Explanation:
        result, told = _only_result(answer)
        maps = tuple(ClassMap(**each | {"map": _vector(each["map"])}) for each in result["maps"])
        photo, crop = result["photo"], result["crop"]
        box = (crop["x"], crop["y"], crop["width"], crop["height"])
        embedding = _vector(result["embedding"]) if "embedding" in result else None
        return Explanation(maps, (photo["width"], photo["height"]), box, embedding, **told)


class Embed(Question[Embedding]):
    """All vectors that one of these reads come from the same weights: those asked for, or the first answer's."""

    def __init__(self, normalize: bool, embedding_id: str | None) -> None:
        super().__init__(f"/embed?normalize={str(normalize).lower()}", Accept="application/octet-stream")
        self._bound = False
        self.embedding_id: str | None = None
        if embedding_id is not None:
            self._bind(embedding_id)

    def _bind(self, embedding_id: str | None) -> None:
        self._bound, self.embedding_id = True, embedding_id
        if embedding_id is not None:
            self.headers["Embedding-Id"] = embedding_id

    def read(self, answer: httpx.Response) -> Embedding:
        found = answer.headers.get("Embedding-Id")
        if not self._bound:
            self._bind(found)
        if found != self.embedding_id:  # by a service without the header, or asked before the first answer was there
            detail = f"the vector is by {found or 'unnamed weights'}, not by {self.embedding_id or 'unnamed weights'}"
            error = EmbeddingMismatch(412, "Embedding mismatch", detail, answer.headers.get("X-Request-Id"))
            error.embedding_id, error.requested = found, self.embedding_id
            raise error
        count, first = int(answer.headers.get("X-Warning-Count", 0)), answer.headers.get("X-Warning")
        warnings = () if first is None else (first,) if count < 2 else (first, f"and {count - 1} more")
        return Embedding(np.frombuffer(answer.content, "<f4"), found, warnings)


def _only_result(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one image's result, and what every result is told with it."""
    document = answer.json()
    (result,) = document["results"]
    warnings = (*document.get("warnings", ()), *result["warnings"])
    return result, {"warnings": warnings, "model": document["model"], "version": document["version"]}


def _vector(numbers: list[Any]) -> Vector:
    return np.array(numbers, np.float32)
