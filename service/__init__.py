"""MobileNetV2 inference service.

Read ``http/endpoints`` → ``serving/intake`` → ``engine/batcher`` → ``engine/runner`` → one of ``runtimes`` to know the
system; ``docs/architecture.md`` draws it.
"""

__version__ = "0.1.0"
