"""``python -m benchmarks.gpu --budget 300``: what a GPU does for the service, in as many seconds.

    __main__ ─► parts: one process each, with a share of the budget ─► their Markdown, as it comes ─► --save

The parts are ``start``, ``served`` (http), ``device``, ``answers`` and ``suite`` (tests). ``served`` starts the service
through ``sampler``, which adds a profiler, and asks it from the processes of ``generator``.
"""
