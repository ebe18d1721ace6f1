"""Reads a checkpoint as float32 arrays by name.

Formats: safetensors, read without torch; and PyTorch's own, read by torch with ``weights_only=True``, which executes no
code. ``keras`` reads Keras' formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import ArtifactError, require_extra

Arrays = dict[str, NDArray[np.float32]]

#: Bytes of the largest file that is read. With the optimizer's state a MobileNetV2 has a tenth of it.
LIMIT = 2**30

#: Keys under which training scripts store the state_dict in a checkpoint.
_NESTED = ("state_dict", "model_state_dict", "model")
#: numpy's names of safetensors' floating-point types, except BF16, which numpy does not have.
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_checkpoint(path: Path) -> Arrays:
    """Every floating-point tensor of the checkpoint at ``path`` as float32; ``num_batches_tracked`` is dropped.

    Raises ArtifactError if the file is not such a checkpoint, MissingExtra if it needs torch.
    """
    with path.open("rb") as file:
        magic = file.read(9)
    # safetensors: eight bytes of length, then a JSON object.
    return _read_safetensors(path) if magic[8:] == b"{" else _read_torch(path)


def require_torch() -> None:
    """MissingExtra unless PyTorch's own format can be read."""
    require_extra("reading a PyTorch checkpoint (.pth)", "torch", "torch")


def _read_safetensors(path: Path) -> Arrays:
    from safetensors import SafetensorError, deserialize

    try:
        content = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]  # untyped in its stub
    except SafetensorError as error:
        raise ArtifactError(f"{path.name} is not a readable safetensors file ({error})") from None
    return {name: _widen(name, view) for name, view in content if not name.endswith("num_batches_tracked")}


def _widen(name: str, view: Mapping[str, Any]) -> NDArray[np.float32]:
    kind, shape, data = view["dtype"], view["shape"], view["data"]
    if kind == "BF16":  # the upper half of a float32
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif kind in _FLOATS:
        with np.errstate(over="ignore"):  # an overflow becomes infinite and is refused with the tensor's name
            values = np.frombuffer(data, _FLOATS[kind]).astype(np.float32)
    else:
        raise ArtifactError(f"the checkpoint's tensor {name} is of type {kind}, not a floating-point type")
    return values.reshape(shape)


def _read_torch(path: Path) -> Arrays:
    require_torch()
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ArtifactError(
            f"{path.name} holds more than tensors and is not loaded, because that could run code; "
            "save model.state_dict() on its own"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ArtifactError(f"{path.name} is neither a safetensors file nor a PyTorch checkpoint ({reason})") from None
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ArtifactError(f"{path.name} is not a state_dict: a mapping of names to tensors")
    tensors: Arrays = {}
    for name, tensor in content.items():
        if name.endswith("num_batches_tracked"):
            continue
        if not tensor.is_floating_point():
            raise ArtifactError(f"the checkpoint's tensor {name} is of type {tensor.dtype}, not a floating-point type")
        tensors[name] = tensor.detach().to(torch.float32).contiguous().numpy()
    return tensors
