"""The engine in another process: ``RemoteEngine`` in a worker, ``EngineServer`` in the engine's process.

    worker: decode ─► slot (shared memory) ─► message ─► engine: batch, infer ─► slot ─► message ─► worker: answer

Pixels and outputs stay in shared memory; only messages of a few bytes cross the Unix socket (ADR 14).
"""
