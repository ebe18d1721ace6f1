"""What a peer serves, by ``PEER_RUNTIME``: torch (the recipe of its documentation) or openvino (our own runtime).

    prepare(jpeg) -> array                        one photo, decoded and brought to the network's input size
    load(threads, callers) -> classify(arrays)    the model; ``classify`` answers for a batch, in its order

An answer is the five most probable classes: ``[{"label": "tabby", "score": 0.62}, …]``.
"""

from __future__ import annotations

import os

__all__ = ["BATCH", "CORES", "PORT", "WAIT", "WORKERS", "load", "prepare"]

#: Largest batch, for every peer.
BATCH = 8
#: Seconds that a batch may wait for more images, if a peer has such a setting.
WAIT = 0.005
CORES = len(os.sched_getaffinity(0))
PORT = int(os.environ.get("PEER_PORT", "8000"))
#: That compute at once: torch computes one batch on every core, our runtime on one core a worker.
WORKERS = 1

if os.environ.get("PEER_RUNTIME") == "openvino":
    from benchmarks.peers.ours import load, prepare

    WORKERS = CORES
else:
    from benchmarks.peers.model import load, prepare
