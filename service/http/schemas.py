"""The shapes of requests and answers, for the OpenAPI document. Answers are encoded without them (``encode``)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    status: int = Field(examples=[422])
    title: str = Field(examples=["Unprocessable image"])
    detail: str = Field(examples=["The image is truncated."])


class ItemProblem(BaseModel):
    """Why one image of several failed."""

    status: int
    title: str
    detail: str


class PredictionModel(BaseModel):
    index: int = Field(examples=[285], description="Class index in the order of the model's labels.")
    label: str = Field(examples=["Egyptian cat"])
    probability: float = Field(examples=[0.389], description="Softmax over all classes.")


class Classified(BaseModel):
    predictions: list[PredictionModel] | None = Field(None, description="By falling probability.")
    warnings: list[str] | None = Field(None, description="What was done to the image beyond decoding it.")
    error: ItemProblem | None = Field(None, description="In place of the others, where this image failed.")


class ClassifyResponse(BaseModel):
    model: str = Field(examples=["mobilenet_v2"])
    version: str = Field(examples=["1"])
    results: list[Classified] = Field(description="One an image, in the order sent.")


class Embedded(BaseModel):
    embedding: list[float] | None = Field(None, description="The pooled features, 1280 at width 1.0.")
    warnings: list[str] | None = None
    error: ItemProblem | None = None


class EmbedResponse(BaseModel):
    model: str = Field(examples=["mobilenet_v2"])
    version: str = Field(examples=["1"])
    results: list[Embedded] = Field(description="One an image, in the order sent.")


class Status(BaseModel):
    status: str = Field(examples=["ok"])


#: An opaque body.
BINARY = {"type": "string", "format": "binary"}

#: Both ways to send images; the form comes first because a browser can fill it in.
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "array", "items": BINARY, "description": "One or more images, each a part."}
                },
            }
        },
        **{
            media_type: {"schema": BINARY}
            for media_type in ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff")
        },
        "application/octet-stream": {"schema": BINARY},
    },
}

_REASONS = {
    400: "Malformed request, empty body or no part named `file`.",
    401: "API key missing or wrong, where keys are configured.",
    413: "Body or image too large.",
    415: "Not JPEG, PNG, WebP, GIF, BMP or TIFF, judged by content.",
    422: "Truncated or corrupt image, or invalid parameter.",
    431: "Request headers too large.",
    500: "Our fault.",
    503: "Overloaded, starting or shutting down; `Retry-After` says when to try again.",
    504: "The deadline passed.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's ``responses`` for these error statuses, or for all of them."""
    return {
        status: {
            "description": _REASONS[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in (statuses or _REASONS)
    }
