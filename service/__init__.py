"""MobileNetV2 inference service.

Read ``http/app`` → ``engine`` → ``batcher`` → one of ``runtimes`` and you have the system;
``docs/architecture.md`` draws it.
"""

__version__ = "0.1.0"
