"""``python -m benchmarks.gpu --budget 300``: what a GPU does for the service, in as many seconds.

    __main__ ─► parts: one process each, with a share of the budget ─► their Markdown, as it comes ─► --save
                 start     seconds until ready, and what cuDNN's search would gain
                 served    JPEGs over HTTP: worker processes against replicas; a profile of both   (http)
                 device    the device alone, and the kernels of one forward pass
                 answers   against torch on the CPU
                 suite     the tests marked gpu                                                    (tests)

``served`` starts the service through ``sampler``, which adds a profiler, and asks it from the processes of
``generator``.
"""
