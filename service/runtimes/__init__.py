"""The model on a device: ``create(artifact, options)`` gives what the engine calls a ``Runtime``.

    openvino        CPU, the default there     openvino ─► openvino_graph
    torch           CUDA, the default there;   torch ─► torch_replay ─► torch_module
                    CPU as the reference
                                                 (recipes, quantization: for ``models quantize``, not for the server)

A runtime has ``name``, ``device``, ``precision``, ``max_batch``, ``run(images) -> BatchOutputs`` (thread-safe) and
``close()``. It raises DeviceLost when its device is gone for good; any other exception of ``run`` concerns that one
batch. Importing this package imports neither OpenVINO nor torch: a machine without a GPU never needs torch.
"""

from __future__ import annotations

import ctypes
import logging
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service import extras
from service.artifact import Artifact
from service.errors import MissingExtra, OperatorError

if TYPE_CHECKING:  # for the signature alone: neither library is imported before it is chosen
    from service.runtimes.openvino import OpenVinoRuntime
    from service.runtimes.torch import TorchRuntime

logger = logging.getLogger(__name__)

_TORCH = ("torch", "torchvision")


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What the operator asked for; ``create`` resolves every "auto"."""

    runtime: str = "auto"  # auto, openvino, torch
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    precision: str = "fp32"  # fp32, bf16, fp16, int8
    runners: int = 1  # threads that call run() at once
    threads_per_runner: int = 1  # CPU threads behind each of them
    max_batch: int = 1  # the largest batch that run() must take


def create(artifact: Artifact, options: RuntimeOptions) -> OpenVinoRuntime | TorchRuntime:
    """Load ``artifact`` onto the device that ``options`` ask for; takes a fraction of a second on a CPU.

    Raises ArtifactError if the weights are missing or damaged, MissingExtra if torch is needed and not installed,
    OperatorError for a choice that this machine cannot serve.
    """
    if min(options.runners, options.threads_per_runner, options.max_batch) < 1:
        raise OperatorError("runners, threads_per_runner and max_batch must be at least 1")
    runtime, device = runtime_and_device(options)
    if runtime == "openvino":
        from service.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(
            artifact,
            precision=options.precision,
            runners=options.runners,
            threads_per_runner=options.threads_per_runner,
            max_batch=options.max_batch,
        )
    extras.require(f"device={device}" if device != "cpu" else "runtime=torch", "torch", *_TORCH)
    from service.runtimes.torch import TorchRuntime

    return TorchRuntime(
        artifact,
        device=device,
        precision=options.precision,
        runners=options.runners,
        threads_per_runner=options.threads_per_runner,
        max_batch=options.max_batch,
    )


def runtime_and_device(options: RuntimeOptions) -> tuple[str, str]:
    """(runtime, device) without "auto": CUDA where it is usable, else the CPU; OpenVINO on a CPU, torch on CUDA.

    Raises OperatorError for unknown names and for openvino on a GPU. Whether a device asked for by name exists is
    checked by its runtime.
    """
    runtime, device = options.runtime, options.device
    if runtime not in ("auto", "openvino", "torch"):
        raise OperatorError(f"runtime={runtime} is unknown; choose auto, openvino or torch")
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        raise OperatorError(f"device={device} is unknown; choose auto, cpu, cuda or cuda:N")
    if runtime == "openvino":
        if device.startswith("cuda"):
            raise OperatorError(f"runtime=openvino runs on the CPU only; use runtime=torch for device={device}")
        return runtime, "cpu"
    if device == "auto":
        device = "cuda" if cuda_usable() else "cpu"
    if runtime == "auto":
        runtime = "torch" if device.startswith("cuda") else "openvino"
    return runtime, device


def cuda_usable() -> bool:
    """Whether there is a GPU and a torch that can use it.

    Importing torch takes seconds and 500 MB, so it is asked only where NVIDIA's driver is installed. A GPU that is
    there and cannot be used is worth a warning, for the service will run on the CPU.
    """
    if not nvidia_driver():
        return False
    if not extras.installed(*_TORCH):
        logger.warning(
            "an NVIDIA driver is installed but torch is not; running on the CPU: %s", MissingExtra("CUDA", "torch")
        )
        return False
    import torch

    if not torch.cuda.is_available():
        logger.warning("an NVIDIA driver is installed but torch finds no GPU to use; running on the CPU")
        return False
    return True


def nvidia_driver() -> bool:
    """Whether the CUDA driver library can be loaded; needs no CUDA toolkit and starts nothing on the GPU."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
