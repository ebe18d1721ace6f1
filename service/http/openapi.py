"""The inference endpoints in the OpenAPI document, described by hand because FastAPI does not route them.

Imported when the document is first requested, which saves memory in processes that never serve it. ``encode`` does not
use these classes; tests check that the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from service.http.overlay import DEFAULT_OPACITY
from service.http.schemas import REFERENCE, Problem, problem_responses
from service.model.outputs import DEFAULT_TOP_K, MAPS_PER_ITEM

_ALIASES = ("stable", "canary", "shadow")

_EMBEDDING_ID = "mobilenet_v2/1;fp32;exact;n1;fef8007620f5f2d1"


class ItemProblem(BaseModel):
    """Why one image of several failed."""

    status: int
    title: str
    detail: str


class _Class(BaseModel):
    index: int = Field(examples=[285], description="Class index in the order of the model's labels.")
    label: str = Field(examples=["Egyptian cat"])
    probability: float = Field(examples=[0.389], description="Softmax over all classes, or the sigmoid of this one.")


class PredictionModel(_Class):
    reached: bool | None = Field(None, description="Whether the probability is the model's threshold or more, if any.")


class Classified(BaseModel):
    predictions: list[PredictionModel] | None = Field(None, description="By descending probability.")
    warnings: list[str] | None = Field(None, description="What else was done to the image, or is unusual about it.")
    error: ItemProblem | None = Field(None, description="Instead of the other fields, if this image failed.")


class _Answer(BaseModel):
    model: str = Field(examples=["mobilenet_v2"])
    version: str = Field(examples=["1"])
    warnings: list[str] | None = Field(None, description="Of the request: parameters that are unknown. Else absent.")


class ClassifyResponse(_Answer):
    results: list[Classified] = Field(description="One per image, in the order sent.")


class Embedded(BaseModel):
    embedding: list[float] | None = Field(None, description="The pooled features, 1280 at width 1.0.")
    warnings: list[str] | None = None
    error: ItemProblem | None = None


class EmbedResponse(_Answer):
    embedding_id: str = Field(examples=[_EMBEDDING_ID], description="Vectors of different ids must not be compared.")
    results: list[Embedded] = Field(description="One per image, in the order sent.")


class ClassMapModel(_Class):
    logit: float = Field(examples=[9.71], description="The mean of the map plus the class's bias.")
    map: list[list[float]] = Field(description="Evidence per cell, rows from the top: 7 × 7 at 224 pixels.")


class PhotoSize(BaseModel):
    width: int = Field(examples=[4000])
    height: int = Field(examples=[3000])


class Crop(BaseModel):
    x: float = Field(examples=[687.5])
    y: float = Field(examples=[187.5])
    width: float = Field(examples=[2625.0])
    height: float = Field(examples=[2625.0])


class Explained(BaseModel):
    maps: list[ClassMapModel] | None = Field(
        None, description="Of the requested classes, in that order; otherwise of the strongest, by descending logit."
    )
    photo: PhotoSize | None = Field(None, description="In pixels, with EXIF orientation applied.")
    crop: Crop | None = Field(None, description="The part of the photo that the maps cover, in its pixels.")
    embedding: list[float] | None = Field(None, description="Of unit length; only with `embedding=true`.")
    warnings: list[str] | None = None
    error: ItemProblem | None = None


class ExplainResponse(_Answer):
    embedding_id: str | None = Field(None, description="As in `/embed`; only with `embedding=true`.")
    results: list[Explained] = Field(description="One per image, in the order sent.")


_BINARY = {"type": "string", "format": "binary"}


def _binary(*media_types: str) -> dict[str, Any]:
    return {media_type: {"schema": _BINARY} for media_type in media_types}


#: Both ways to send images; the form comes first because Swagger UI can fill it in.
_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "array",
                        "minItems": 1,
                        "items": _BINARY,
                        "description": "One or more images, one per part. A part is an image if it has a file name, an "
                        "`image/*` type, or this name. Other parts are parameters; those of the query have precedence.",
                    }
                },
            }
        },
        **_binary("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"),
        **_binary("application/octet-stream"),
    },
}

_WARNING_HEADERS = {
    "X-Warning-Count": {"description": "Of the request and all its images.", "schema": {"type": "integer"}},
    "X-Warning": {"description": "The first of them, in ASCII.", "schema": {"type": "string"}},
}

_VECTOR_HEADERS = {"Embedding-Id": {"description": "Of the vectors in the answer.", "schema": {"type": "string"}}}


def components() -> dict[str, Any]:
    """Every schema that ``inference_paths`` and ``problem_responses`` refer to, by name."""
    models = (Problem, ClassifyResponse, EmbedResponse, ExplainResponse)
    _, definitions = models_json_schema([(model, "serialization") for model in models], ref_template=REFERENCE)
    return dict(definitions["$defs"])


def inference_paths(num_classes: int) -> dict[str, Any]:
    """The OpenAPI path items of the inference endpoints for a model of ``num_classes`` classes."""

    def top_k(default: int, most: int) -> dict[str, Any]:
        limits = {"minimum": 1, "maximum": most, "default": min(default, most)}
        return _parameter("top_k", "Number of classes per image.", type="integer", **limits)

    most_maps = min(MAPS_PER_ITEM, num_classes)
    index = {"type": "integer", "minimum": 0, "maximum": num_classes - 1}
    classes = {"type": "array", "items": index, "minItems": 1, "maxItems": most_maps, "uniqueItems": True}
    strength = "For a drawing: how opaque the map is where it is strongest."
    vectors = (
        "\n\n`Accept: application/octet-stream` gives the vectors as little-endian float32, row by row, "
        "`Accept: application/x-npy` as a NumPy file. In these two forms one bad image fails the whole request."
    )
    drawing = (
        "\n\n`Accept: image/png` gives one photo, upright and reduced to at most 1,024 pixels per side, with the map "
        "of one class drawn over it. Outside the centre crop, which the network does not see, the photo is dimmed."
    )
    paths = {
        "/classify": _operation(
            "classify", "Classes of one or more images", [top_k(DEFAULT_TOP_K, num_classes)], ClassifyResponse
        ),
        "/embed": _operation(
            "embed",
            "Feature vectors of one or more images",
            [_parameter("normalize", "Scale each vector to unit Euclidean length.", type="boolean", default=True)],
            EmbedResponse,
            vectors,
            ("application/octet-stream", "application/x-npy"),
        ),
        "/explain": _operation(
            "explain",
            "Class activation maps of one or more images",
            [
                top_k(MAPS_PER_ITEM, most_maps),
                {**_parameter("class", "Indices of classes, instead of `top_k`.", **classes), "explode": False},
                _parameter("embedding", "Add the embedding, of unit length.", type="boolean", default=False),
                _parameter("opacity", strength, type="number", minimum=0, maximum=1, default=DEFAULT_OPACITY),
            ],
            ExplainResponse,
            drawing,
            ("image/png",),
        ),
    }
    return paths | {f"/models/{{name}}{path}": _of_one_model(items) for path, items in paths.items()}


def _of_one_model(items: dict[str, Any]) -> dict[str, Any]:
    """The path items of the same endpoint for a model by its name, whose classes may be fewer."""
    post = items["post"]
    name = {**_parameter("name", "Name of a model.", "path", type="string"), "required": True}
    changes = {"operationId": f"{post['operationId']}_with_model", "summary": f"{post['summary']}, by one model"}
    return {"post": post | changes | {"parameters": [name, *post["parameters"]]}}


def _parameter(name: str, description: str, where: str = "query", /, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": schema, "description": description}


def _operation(
    name: str,
    summary: str,
    parameters: list[dict[str, Any]],
    model: type[_Answer],
    other_forms: str = "",
    other_types: Sequence[str] = (),
) -> dict[str, Any]:
    """``model`` is the answer in JSON; ``other_forms`` describes the answers of ``other_types``."""
    description = (
        "Send one image as the body, or several as files in a multipart form. With several, a bad image is reported in "
        "its place and the others are answered; if all are bad, the status is that of the first. "
        "The body may have `Content-Encoding: gzip` or `deflate`."
    )
    deadline = "Deadline of this request; the service's own limit still applies."
    parameters = [
        *parameters,
        _parameter("version", "Answer by this version, if it is loaded.", type="string"),
        _parameter("alias", "Answer by the version that this alias names.", type="string", enum=list(_ALIASES)),
    ]
    headers = [
        _parameter("X-Request-Timeout-Ms", deadline, "header", type="integer", minimum=1),
        _parameter("X-Priority", "`low`: only while nobody else waits.", "header", type="string"),
    ]
    has_vectors = "embedding_id" in model.model_fields
    if has_vectors:
        other = "Answer by the version whose vectors these are; 412 if none is loaded."
        headers.append(_parameter("Embedding-Id", other, "header", type="string"))
    else:
        same = "Requests with the same key are answered by the same version while a canary takes a share of them."
        headers.append(_parameter("X-Split-Key", same, "header", type="string"))
    json = {"application/json": {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}}
    responses = {
        "200": {
            "description": "One result per image, in the order sent.",
            "headers": _WARNING_HEADERS | (_VECTOR_HEADERS if has_vectors else {}),
            "content": json | _binary(*other_types),
        }
    }
    return {
        "post": {
            "tags": ["inference"],
            "operationId": name,
            "summary": summary,
            "description": description + other_forms,
            "parameters": [*parameters, *headers],
            "requestBody": _REQUEST_BODY,
            "responses": responses
            | {str(status): content for status, content in problem_responses().items() if has_vectors or status != 412},
        }
    }
