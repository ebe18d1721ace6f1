"""The rooms of the service in order, lowest first, as in docs/architecture.md: a room imports only lower ones."""

from __future__ import annotations

LAYERS = {
    **dict.fromkeys(["cgroup", "config", "cores", "errors", "extras", "logs", "memory", "metrics"], 0),
    **dict.fromkeys(["image", "postprocess", "overlay", "batcher", "admission", "capacity", "pace", "mobilenetv2"], 1),
    **dict.fromkeys(["artifact", "store", "runtimes"], 2),
    **dict.fromkeys(["engine", "ipc"], 3),
    "http": 4,
    **dict.fromkeys(["assembly", "single", "supervisor", "cli", "__main__"], 5),
}
