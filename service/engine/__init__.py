"""Batcher and runners behind one small interface: pixels in, logits, embeddings and class maps out."""

from service.engine.client import (
    ENGINE_EXITS,
    Decode,
    EngineClient,
    InferResult,
    Priority,
    Readiness,
    RuntimeInfo,
    Source,
    State,
)
from service.engine.local import LocalEngine

__all__ = [
    "ENGINE_EXITS",
    "Decode",
    "EngineClient",
    "InferResult",
    "LocalEngine",
    "Priority",
    "Readiness",
    "RuntimeInfo",
    "Source",
    "State",
]
