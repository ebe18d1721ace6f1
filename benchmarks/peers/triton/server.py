"""Triton Inference Server through PyTriton: a Python function behind Triton's dynamic batcher."""

import os
import sysconfig

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.classifier import BATCH, CORES, PORT, WAIT, WORKERS, load, prepare

classify = load(threads=CORES // WORKERS, callers=WORKERS)


@batch
def infer(image: np.ndarray) -> dict[str, np.ndarray]:
    """(B, 1) bytes → (B, 5) labels and (B, 5) scores."""
    answers = classify([prepare(jpeg) for (jpeg,) in image])
    return {
        "label": np.array([[best["label"].encode() for best in answer] for answer in answers], dtype=object),
        "score": np.array([[best["score"] for best in answer] for answer in answers], dtype=np.float32),
    }


if __name__ == "__main__":
    # Triton's Python stub must find the library of this very interpreter, not the system's.
    os.environ["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    local = TritonConfig(
        http_address="127.0.0.1", http_port=PORT, allow_grpc=False, allow_metrics=False, cache_config=None
    )
    with Triton(config=local) as triton:
        triton.bind(
            model_name="mobilenet",
            infer_func=[infer] * WORKERS,
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="label", dtype=bytes, shape=(5,)), Tensor(name="score", dtype=np.float32, shape=(5,))],
            config=ModelConfig(
                max_batch_size=BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=round(WAIT * 1e6))
            ),
            strict=True,
        )
        triton.serve()
