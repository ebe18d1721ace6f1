"""Turns the MobileNetV2 of any known library into torchvision's tensors, with what else is known of it.

file ─► arrays ─► names: prefix, layout ─► architecture, by the shapes ─► torchvision's names, padding, epsilon
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import ArtifactError
from service.model.artifact import Architecture
from service.model.network import PAPER_STAGES, Network, Stage, build
from service.store import checkpoint, facts, keras, names
from service.store.checkpoint import LIMIT, Arrays
from service.store.names import Layout

Float32 = NDArray[np.float32]

#: What a folder of Transformers or timm holds the weights in.
_IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NORM = ("weight", "bias", "running_mean", "running_var")
#: Tried in this order: published ones first.
_WIDTHS = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4, *(hundredths / 100 for hundredths in range(5, 401)))


@dataclass(frozen=True, slots=True)
class Found:
    file: Path
    family: str
    architecture: Architecture
    #: Under torchvision's names; shapes are not checked yet.
    tensors: Arrays
    facts: facts.Facts


class _Parameters(NamedTuple):
    """Of a convolution with its batch norm."""

    kernel: Float32
    norm: Arrays


def read(path: Path, architecture: Architecture | None = None) -> Found:
    """The network in the file or folder at ``path``.

    ``architecture`` is that of any number of classes; without it, it is read from the shapes, and strides are the
    paper's. Raises ArtifactError with one sentence, or MissingExtra.
    """
    try:
        file = _file(path)
        arrays, description = _arrays(file)
    except OSError as error:
        raise ArtifactError(f"the checkpoint {path.name} cannot be read: {error.strerror or error}") from None
    prefix, layout = names.find(arrays, file.name)
    known = facts.collect(layout.family, file.parent, description)
    convs = list(_take(arrays, prefix, layout, file.name))
    weight, bias = _classifier(arrays, prefix, file.name)
    architecture = architecture or _architecture(layout, [conv.kernel for conv in convs], file.name)
    architecture = architecture.model_copy(update={"num_classes": len(weight)})
    network = architecture.network()
    if len(convs) != len(layers := list(network.convs())):
        raise ArtifactError(f"{file.name} has {len(convs)} convolutions, the architecture {len(layers)}")
    tensors = {f"{network.classifier}.weight": weight, f"{network.classifier}.bias": bias}
    for layer, conv in zip(layers, convs, strict=True):
        tensors[f"{layer.conv}.weight"] = conv.kernel
        tensors |= {f"{layer.norm}.{part}": values for part, values in conv.norm.items()}
    tensors = keras.to_torchvision(tensors, known.epsilon, rotate=known.tf_padding)
    return Found(file, layout.family, architecture, tensors, known)


def _file(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in _IN_A_FOLDER if (path / name).is_file()]
        if not found:
            remedy = "; save the model as .keras" if (path / "saved_model.pb").exists() else ""
            raise ArtifactError(f"the folder {path.name} holds neither {' nor '.join(_IN_A_FOLDER)}{remedy}")
        path = found[0]
    if path.stat().st_size > LIMIT:
        raise ArtifactError(f"{path.name} is larger than any checkpoint of a MobileNetV2")
    return path


def _arrays(file: Path) -> tuple[Arrays, Any]:
    """And Keras' description of the model."""
    with file.open("rb") as opened:
        magic = opened.read(len(_HDF5))
    if magic == _HDF5 or keras.is_archive(file):
        return keras.read(file)
    return checkpoint.read_checkpoint(file), None


def _take(arrays: Arrays, prefix: str, layout: Layout, file: str) -> Iterator[_Parameters]:
    """Move the parameters of each convolution out of ``arrays``."""
    wanted = [
        (f"{prefix}{pair.conv}.weight", [f"{prefix}{pair.norm}.{part}" for part in _NORM]) for pair in layout.pairs()
    ]
    missing = [name for kernel, norm in wanted for name in (kernel, *norm) if name not in arrays]
    if missing:
        raise ArtifactError(
            f"{file} is no whole MobileNetV2: {len(missing)} tensors are missing, the first is {missing[0]}"
        )
    for kernel, norm in wanted:
        if arrays[kernel].ndim != 4 or not arrays[kernel].size:
            raise ArtifactError(f"{file}: {kernel} has shape {arrays[kernel].shape} and is no convolution's")
        yield _Parameters(arrays.pop(kernel), {part: arrays.pop(name) for part, name in zip(_NORM, norm, strict=True)})


def _classifier(arrays: Arrays, prefix: str, file: str) -> tuple[Float32, Float32]:
    """Weight and bias of the only linear layer among the rest, whatever its name: each trainer gives it another."""
    linear = sorted(name for name, values in arrays.items() if values.ndim == 2 and len(values))
    if len(linear) != 1:
        count = f"{len(linear)} linear layers ({', '.join(linear)})" if linear else "no classifier"
        raise ArtifactError(f"{file} has {count}; one linear layer after the pooling can be served")
    weight = arrays.pop(linear[0])
    bias = arrays.pop(f"{linear[0].removesuffix('weight')}bias", np.zeros(len(weight), np.float32))
    # Vectors beside the network are a loss's or a metric's.
    strange = [name for name, values in arrays.items() if values.ndim > 1 or name.startswith(prefix)]
    if strange:
        raise ArtifactError(f"{file}: {len(strange)} tensors do not belong here, the first is {strange[0]}")
    return weight, bias


def _architecture(layout: Layout, kernels: list[Float32], file: str) -> Architecture:
    """The arguments with which torchvision's class has convolutions of these shapes."""
    if len(layout.stages) != len(PAPER_STAGES) or sum(layout.stages) != len(layout.blocks):
        raise ArtifactError(f"{file} has {len(layout.blocks)} blocks; state --inverted-residual-setting")
    shapes = [kernel.shape for kernel in kernels]
    for width in _WIDTHS:
        if _shapes(build(width_mult=width)) == shapes:
            return Architecture.model_validate({"width_mult": width})
    # Widths of its own: rows that say them, and a multiplier that gives stem and head.
    ends = [sum(len(block) for block in layout.blocks[:end]) for end in range(1, len(layout.blocks) + 1)]
    firsts = [sum(layout.stages[:stage]) for stage in range(len(layout.stages))]
    for width in _WIDTHS:
        rows = []
        for first, repeats, paper in zip(firsts, layout.stages, PAPER_STAGES, strict=True):
            project = shapes[ends[first]]
            before = shapes[ends[first] - len(layout.blocks[first])][0]
            rows.append(Stage(project[1] // before, round(project[0] / width), repeats, paper.s))
        if all(min(row) >= 1 for row in rows) and _shapes(build(width_mult=width, stages=tuple(rows))) == shapes:
            return Architecture.model_validate({"width_mult": width, "inverted_residual_setting": rows})
    raise ArtifactError(f"no width of MobileNetV2 has the shapes of {file}; if it is one, state its architecture")


def _shapes(network: Network) -> list[tuple[int, ...]]:
    return [layer.weight_shape for layer in network.convs()]
