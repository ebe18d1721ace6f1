"""The OpenVINO side: our preprocessing and runtime inside another server, so that only the server differs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from service import runtimes
from service.image import inspect
from service.image import preprocess as decode
from service.model import artifact
from service.model.outputs import classify as most_probable
from service.model.runtime import RuntimeOptions

_ARTIFACT = artifact.load(Path(__file__).parents[2] / "model_store", "mobilenet_v2", "1")
_TRANSFORM = _ARTIFACT.manifest.preprocessing.transform()

Answer = list[dict[str, Any]]


def prepare(jpeg: bytes) -> Any:
    """A JPEG → (224, 224, 3) uint8."""
    return decode(jpeg, inspect(jpeg), _TRANSFORM)


def load(threads: int, callers: int = 1) -> Callable[[Sequence[Any]], list[Answer]]:
    """``callers`` threads will call at once, with ``threads`` cores for each."""
    precision = os.environ.get("PEER_PRECISION", "fp32")
    options = RuntimeOptions("openvino", "cpu", precision, runners=callers, threads_per_runner=threads, max_batch=8)
    runtime = runtimes.create(_ARTIFACT, options)

    def classify(images: Sequence[Any]) -> list[Answer]:
        outputs = runtime.run(images)
        return [
            [
                {"label": best.label, "score": float(best.probability)}
                for best in most_probable(output, _ARTIFACT.labels, 5)
            ]
            for output in outputs.items()
        ]

    return classify
