"""Schemas of the OpenAPI document that all routes use; ``openapi`` describes the inference endpoints."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    status: int = Field(examples=[422])
    title: str = Field(examples=["Unprocessable image"])
    detail: str = Field(examples=["the image is truncated: its data ends before its last pixel"])


class Status(BaseModel):
    status: str = Field(examples=["ok"])


_REASONS = {
    400: "Malformed request, empty body, or a form without an image.",
    404: "No model of this name, or no such version of it, is served here.",
    401: "API key missing or wrong, if keys are configured.",
    412: "The vectors here are not those that `Embedding-Id` names; `embedding_id` in the problem says whose they are.",
    413: "Body or image too large.",
    415: "Not JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF (HEIC where its decoder is installed), judged by its content; or "
    "not gzip or deflate in `Content-Encoding`.",
    422: "Truncated or corrupt image, or invalid parameter.",
    429: "This client already has its share of images in flight; `Retry-After` says when to try again.",
    431: "Request headers too large.",
    500: "A fault of the service.",
    503: "Overloaded, starting or shutting down; `Retry-After` says when to try again.",
    504: "The deadline passed.",
}

REFERENCE = "#/components/schemas/{model}"


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses for these error statuses, or for all of them."""
    schema = {"$ref": REFERENCE.format(model="Problem")}
    return {
        status: {"description": _REASONS[status], "content": {"application/problem+json": {"schema": schema}}}
        for status in (statuses or _REASONS)
    }
