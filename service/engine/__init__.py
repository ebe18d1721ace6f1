"""Batcher and runners behind one small interface: images in, logits, embeddings and maps out."""

from service.engine.local import LocalEngine, State
from service.engine.protocols import EngineClient, InferResult, Prepare, Readiness, Runtime, RuntimeInfo

__all__ = ["EngineClient", "InferResult", "LocalEngine", "Prepare", "Readiness", "Runtime", "RuntimeInfo", "State"]
