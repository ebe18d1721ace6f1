"""Outcomes as response bodies: JSON, or raw float32 or NPY for programs that compute on embeddings.

Numbers are float32 and are written with the fewest digits that read back to the same float32.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from service.errors import ServiceError
from service.http import problems
from service.http.parameters import Parameters
from service.image import crop_box
from service.model.outputs import classify, explain, normalize
from service.serving.intake import Answer, Outcome, Served

JSON = "application/json"
RAW = "application/octet-stream"
NPY = "application/x-npy"
PNG = "image/png"

#: Of answers that hold embeddings, and of requests that want those of one model only.
EMBEDDING_ID = "Embedding-Id"

_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_NOT_PRINTABLE = re.compile(r"[^ -~]")


def negotiate(accept: str | None, others: Sequence[str]) -> str:
    """The media type that the Accept header ``accept`` prefers among JSON and ``others``; JSON if it names none.

    Wildcards mean JSON. Quality values as in RFC 9110, section 12.4.2.
    """
    best, best_quality = JSON, 0.0
    for entry in (accept or "").split(","):
        media_type, *parameters = (part.strip().lower() for part in entry.split(";"))
        if media_type in (JSON, *others) and (quality := _quality(parameters)) > best_quality:
            best, best_quality = media_type, quality
    return best


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


class Warnings:
    """What an answer warns of: the request's parameters, and each of its images.

    ``headers`` tell it in every form of the answer, without anything that the client sent.
    """

    def __init__(self, parameters: Parameters, outcomes: Sequence[Outcome]) -> None:
        self.request = parameters.warnings() if parameters.values else []
        self.images = [() if isinstance(outcome, ServiceError) else outcome.warnings for outcome in outcomes]
        of_images = [warning for warnings in self.images for warning in warnings]
        self.headers = {"X-Warning-Count": str(len(self.request) + len(of_images))}
        if self.request:
            self.headers["X-Warning"] = parameters.plain_warning()
        elif of_images:
            self.headers["X-Warning"] = _NOT_PRINTABLE.sub("?", of_images[0])


class Encoder:
    """Encodes outcomes of one model, with its name, labels, head and crop."""

    def __init__(self, served: Served) -> None:
        manifest = served.artifact.manifest
        self._envelope = {"model": manifest.name, "version": manifest.version}
        self._labels = served.labels
        self._head = manifest.head
        self._transform = served.transform

    def classes(self, outcomes: Sequence[Outcome], warnings: Warnings, *, top_k: int) -> Response:
        def describe(answer: Answer) -> dict[str, Any]:
            return {"predictions": classify(answer.result.output, self._labels, top_k, self._head)}

        return self._json(outcomes, warnings, describe)

    def maps(
        self, outcomes: Sequence[Outcome], warnings: Warnings, *, classes: Sequence[int], top_k: int, identity: str
    ) -> Response:
        """``identity``: the id of the embeddings to add; empty: none."""

        def describe(answer: Answer) -> dict[str, Any]:
            size, output = answer.header.upright_size, answer.result.output
            item: dict[str, Any] = {
                "maps": explain(output, self._labels, classes, top_k, self._head),
                "photo": {"width": size[0], "height": size[1]},
                "crop": crop_box(size, self._transform)._asdict(),
            }
            if identity:
                item["embedding"] = normalize(output.embedding)
            return item

        return self._json(outcomes, warnings, describe, identity)

    def embeddings(
        self, outcomes: Sequence[Outcome], warnings: Warnings, *, unit_length: bool, identity: str, media_type: str
    ) -> Response:
        """In JSON a failed image has its error in place; a matrix cannot hold one, so its error is the whole answer."""

        def vector(answer: Answer) -> NDArray[np.float32]:
            embedding = answer.result.output.embedding
            return normalize(embedding) if unit_length else embedding

        if media_type == JSON:
            return self._json(outcomes, warnings, lambda answer: {"embedding": vector(answer)}, identity)
        rows = []
        for outcome in outcomes:
            if isinstance(outcome, ServiceError):
                return problems.response(outcome)
            rows.append(vector(outcome))
        response = _matrix(np.stack(rows), media_type)
        response.headers[EMBEDDING_ID] = identity
        return response

    def _json(
        self,
        outcomes: Sequence[Outcome],
        warnings: Warnings,
        describe: Callable[[Answer], dict[str, Any]],
        identity: str = "",
    ) -> Response:
        results = [
            {"error": problems.problem(outcome)}
            if isinstance(outcome, ServiceError)
            else describe(outcome) | {"warnings": of_image}
            for outcome, of_image in zip(outcomes, warnings.images, strict=True)
        ]
        of_request = {"warnings": warnings.request} if warnings.request else {}
        vectors = {"embedding_id": identity} if identity else {}
        body = orjson.dumps({**self._envelope, **vectors, **of_request, "results": results}, option=_JSON_OPTIONS)
        return Response(body, media_type=JSON, headers={EMBEDDING_ID: identity} if identity else None)


def _matrix(matrix: NDArray[np.float32], media_type: str) -> Response:
    """(images, embedding_dim) float32, little-endian, row-major."""
    little = np.ascontiguousarray(matrix, dtype="<f4")
    if media_type == RAW:
        return Response(little.tobytes(), media_type=RAW)
    buffer = io.BytesIO()
    np.save(buffer, little, allow_pickle=False)
    return Response(buffer.getvalue(), media_type=NPY)
