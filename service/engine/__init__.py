"""Batcher and runners behind one small interface: images in, logits, embeddings and maps out."""

from service.engine.client import EngineClient, InferResult, Prepare, Readiness, RuntimeInfo
from service.engine.local import LocalEngine
from service.engine.replies import ENGINE_EXITS, State

__all__ = [
    "ENGINE_EXITS",
    "EngineClient",
    "InferResult",
    "LocalEngine",
    "Prepare",
    "Readiness",
    "RuntimeInfo",
    "State",
]
