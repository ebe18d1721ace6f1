"""Batcher and runners behind one small interface: pixels in, logits, embeddings and class maps out."""

from service.engine.client import Decode, EngineClient, InferResult, Priority, Readiness, RuntimeInfo, Source
from service.engine.local import LocalEngine
from service.engine.states import ENGINE_EXITS, State

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
