"""The engine in another process: ``RemoteEngine`` in a worker, ``EngineServer`` in the engine's process.

    worker: decode ─► slot (shared memory) ─► message ─► engine: batch, infer ─► slot ─► message ─► worker: answer

Pixels and outputs stay where they were written; what travels is a few bytes over a Unix socket (ADR 14).
"""
