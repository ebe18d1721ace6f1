"""The CUDA runtime, and the reference on the CPU: torchvision's network in torch.

CUDA: the folded graph, channels_last, in fp32 (without TF32), fp16 or bf16, with one lane of CUDA graphs per runner
(``replay``, ADR 15). No autocast, which would cast every weight again in each replay.
CPU: torchvision's graph unchanged, eager, fp32 only; for comparison, not for speed.
"""

from __future__ import annotations

import numpy as np
import torch

from service.errors import DeviceLost, OperatorError
from service.model.artifact import Artifact
from service.model.outputs import MAPS_PER_ITEM, BatchOutputs
from service.model.runtime import Classes, Images, RuntimeOptions, check_images, map_rows
from service.runtimes.pool import Pool
from service.runtimes.torch.network import DTYPES, Classifier, load_classifier
from service.runtimes.torch.replay import Lane, Rows, bucket_sizes, gather, out_of_memory, run_or_halve


class TorchRuntime:
    """``Runtime`` on torch. Raises OperatorError for a device or precision that is not available."""

    name = "torch"

    def __init__(self, artifact: Artifact, options: RuntimeOptions) -> None:
        target = check_device(options.device, options.precision)
        self.device = str(target)
        self.precision = options.precision
        self._size = artifact.manifest.preprocessing.crop_size
        self._num_classes = artifact.network.num_classes
        self._maps = min(MAPS_PER_ITEM, self._num_classes)
        self._lanes: Pool[Lane | EagerLane] | None  # a runner thread uses one lane during each call
        if target.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = False
            try:
                module = load_classifier(artifact, folded_to=options.precision).to(target)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise OperatorError(f"device={target} has not enough free memory for the weights") from None
            sizes = bucket_sizes(options.max_batch)
            lanes = [Lane(module, sizes, self._size, target) for _ in range(options.runners)]
            # A later lane may have had less memory left than the first.
            self.max_batch = min(lane.max_batch for lane in lanes)
            self._lanes = Pool(lanes)
        else:
            torch.set_num_threads(options.threads_per_runner)
            self.max_batch = options.max_batch
            self._lanes = Pool([EagerLane(load_classifier(artifact), self._size)] * options.runners)

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        """B images, each (S, S, 3) uint8 → ``BatchOutputs``.

        Raises ValueError for other input, DeviceLost if the device no longer answers, and torch's RuntimeError if only
        this batch failed.
        """
        check_images(images, self._size, self.max_batch)
        rows = None if classes is None else map_rows(classes, len(images), self._maps, self._num_classes)
        lanes = self._lanes
        if lanes is None:
            raise RuntimeError("the runtime is closed")
        with lanes.lease() as lane:
            try:
                return run_or_halve(lane.run, images, rows)
            except RuntimeError as error:
                if lane.alive():
                    raise
                raise DeviceLost(f"{self.device} no longer answers: {error}") from error

    def close(self) -> None:
        """Release the device's memory once running calls have ended. Idempotent."""
        self._lanes = None
        if self.device != "cpu":
            torch.cuda.empty_cache()


class EagerLane:
    """Runs batches of any size without buffers or state, so that all runners share one."""

    def __init__(self, module: Classifier, side: int) -> None:
        self._module = module
        self._side = side

    def run(self, images: Images, rows: Rows = None) -> BatchOutputs:
        batch = np.empty((len(images), self._side, self._side, 3), np.uint8)
        gather(images, batch)
        if rows is None:
            rows = np.full((len(images), self._module.maps), -1, np.int32)
        with torch.inference_mode():
            outputs = self._module(torch.from_numpy(batch), torch.from_numpy(rows))
        return BatchOutputs(*(output.numpy() for output in outputs))

    def alive(self) -> bool:
        return True


def check_device(device: str, precision: str) -> torch.device:
    """``device`` ("cpu", "cuda", "cuda:N") as torch names it; OperatorError if it or the precision is not available."""
    if precision not in DTYPES:
        raise OperatorError(f"precision={precision} is unknown to the torch runtime; choose fp32, fp16 or bf16")
    target = torch.device(device)
    if target.type == "cpu":
        if precision != "fp32":
            raise OperatorError(
                f"runtime=torch computes in fp32 only on a CPU, not {precision}; use runtime=openvino or a CUDA device"
            )
        return target
    if not torch.cuda.is_available():
        raise OperatorError(f"device={device}: torch finds no CUDA GPU here; use device=cpu")
    index, count = target.index or 0, torch.cuda.device_count()
    if index >= count:
        raise OperatorError(f"device={device}: the last of the {count} CUDA devices here is cuda:{count - 1}")
    if precision == "bf16" and torch.cuda.get_device_capability(index) < (8, 0):
        raise OperatorError(f"device={device} has no bfloat16 (before Ampere); use precision=fp16 or fp32")
    return torch.device("cuda", index)
