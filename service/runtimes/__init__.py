"""The model on a device: ``create(artifact, options)`` loads an artifact and returns a ``Runtime``.

    openvino/    CPU, the default there
    torch/       CUDA, the default there; on a CPU a reference for comparison

Importing this package imports neither OpenVINO nor torch: a service loads only the library it uses, and without a GPU
torch need not be installed.
"""

from __future__ import annotations

import ctypes
import logging
import re

from service.errors import MissingExtra, OperatorError, installed, require_extra
from service.model.artifact import Artifact
from service.model.runtime import Runtime, RuntimeOptions

logger = logging.getLogger(__name__)

_TORCH = ("torch", "torchvision")


def create(artifact: Artifact, options: RuntimeOptions) -> Runtime:
    """Load ``artifact`` onto the device that ``options`` name; takes a fraction of a second on a CPU.

    Raises ArtifactError if the weights are missing or damaged, MissingExtra if torch is needed and not installed,
    OperatorError for options that this machine does not support.
    """
    if min(options.runners, options.threads_per_runner, options.max_batch) < 1:
        raise OperatorError("runners, threads_per_runner and max_batch must be at least 1")
    runtime, device = runtime_and_device(options.runtime, options.device)
    if runtime == "openvino":
        from service.runtimes.openvino.runtime import OpenVinoRuntime

        return OpenVinoRuntime(artifact, options)
    require_extra(f"device={device}" if device != "cpu" else "runtime=torch", "torch", *_TORCH)
    from service.runtimes.torch.runtime import TorchRuntime

    return TorchRuntime(artifact, options)


def runtime_and_device(runtime: str, device: str) -> tuple[str, str]:
    """(runtime, device) without "auto": CUDA where it is usable, else the CPU; OpenVINO on a CPU, torch on CUDA.

    Raises OperatorError for unknown names and for openvino on a GPU. Whether a named device exists is checked by its
    runtime.
    """
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
    """Whether there is a GPU and a torch that can use it; a warning if there seems to be a GPU that torch cannot use.

    Importing torch takes seconds and 500 MB, so it is imported only where NVIDIA's driver is installed.
    """
    if not nvidia_driver():
        return False
    if not installed(*_TORCH):
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
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
