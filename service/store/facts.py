"""What a library says of its checkpoint, besides the tensors: preprocessing, labels, head, padding.

timm and Transformers write JSON files beside the weights, Keras a description of the model into them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ArtifactError
from service.model.network import BATCH_NORM_EPSILON
from service.model.outputs import Activation
from service.store.checkpoint import LIMIT
from service.store.keras import KERAS_EPSILON

#: torchvision's ``presets.ImageClassification``, which most checkpoints were trained for.
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
#: TensorFlow's pixels: [-1, 1].
_INCEPTION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_SIZES = {"resize_size": 256, "crop_size": 224}
#: PIL's numbers.
_FILTERS = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True, slots=True)
class Facts:
    preprocessing: dict[str, Any]  # without what the library says and we cannot do
    labels: tuple[str, ...] | None = None
    activation: Activation | None = None  # of the classifier
    tf_padding: bool = False
    epsilon: float = BATCH_NORM_EPSILON


def collect(family: str, folder: Path, description: Any) -> Facts:
    """``family`` is a ``Layout``'s; ``folder`` holds the weights; ``description`` is Keras' of the model, if any.

    Raises ArtifactError if the model does something that MobileNetV2 does not.
    """
    try:
        if family == "timm":
            return _timm(_json(folder / "config.json"))
        if family == "Transformers":
            return _transformers(_json(folder / "config.json"), _json(folder / "preprocessor_config.json"))
        if family == "Keras":
            return _keras(description)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, ArithmeticError, RecursionError) as error:
        raise ArtifactError(f"what {family} wrote beside the weights cannot be understood ({error!r})") from None
    return Facts(_SIZES | _IMAGENET | {"interpolation": "bilinear"})


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError("too large")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path.name} beside the weights cannot be read ({error})") from None
    return content if isinstance(content, dict) else {}


def _timm(config: dict[str, Any]) -> Facts:
    trained = config.get("pretrained_cfg", {})
    preprocessing = {name: trained.get(name, value) for name, value in _IMAGENET.items()}
    if (interpolation := trained.get("interpolation", "bicubic")) in _FILTERS.values():
        preprocessing["interpolation"] = interpolation
    if trained.get("crop_mode", "center") == "center":
        crop = trained.get("input_size", [3, 224, 224])[-1]
        preprocessing |= {"resize_size": math.floor(crop / trained.get("crop_pct", 0.875)), "crop_size": crop}
    return Facts(preprocessing, _labels(config.get("label_names") or trained.get("label_names")))


def _transformers(config: dict[str, Any], processor: dict[str, Any]) -> Facts:
    only = {"hidden_act": "relu6", "output_stride": 32, "first_layer_is_expansion": True, "num_channels": 3}
    for name, value in only.items():
        if config.get(name, value) != value:
            raise ArtifactError(f"config.json says {name} {config[name]}; only {value} can be served")
    if (problem := config.get("problem_type")) == "regression":
        raise ArtifactError("config.json says that this network makes a regression; it has no classes to serve")
    names = config.get("id2label") or {}
    return Facts(
        _processed(processor),
        _labels([names[number] for number in sorted(names, key=int)]),
        "sigmoid" if problem == "multi_label_classification" else None,
        tf_padding=config.get("tf_padding", True),
        epsilon=float(config.get("layer_norm_eps", 1e-3)),
    )


def _processed(processor: dict[str, Any]) -> dict[str, Any]:
    """Our fields from an image processor's."""
    # Pixels are scaled to [0, 1] by us, by ``rescale_factor`` there.
    scale = 255 * (processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1)
    center, spread = (processor.get(name, 0.5) for name in ("image_mean", "image_std"))
    if not processor.get("do_normalize", True):
        center, spread = 0, 1
    mean, std = (
        tuple(value / scale for value in (given if isinstance(given, list) else [given] * 3))
        for given in (center, spread)
    )
    preprocessing: dict[str, Any] = {"mean": mean, "std": std}
    if (interpolation := _FILTERS.get(processor.get("resample", 2))) is not None:
        preprocessing["interpolation"] = interpolation
    size, crop = processor.get("size", 256), processor.get("crop_size", 224)
    shortest = size.get("shortest_edge") if isinstance(size, dict) else size
    sides = [crop["height"], crop["width"]] if isinstance(crop, dict) else [crop] * 2
    cropped = processor.get("do_resize", True) and processor.get("do_center_crop", True)
    if shortest and sides[0] == sides[1] and cropped:
        preprocessing |= {"resize_size": shortest, "crop_size": sides[0]}
    return preprocessing


def _keras(description: Any) -> Facts:
    layers = list(_layers(description))
    preprocessing: dict[str, Any] = {**_SIZES, **_INCEPTION, "interpolation": "bilinear"}
    for kind, config in layers:
        shape = config.get("batch_shape") or config.get("batch_input_shape") or []
        if len(shape) == 4 and shape[1] == shape[2] and isinstance(shape[1], int):
            preprocessing |= {"crop_size": shape[1], "resize_size": round(shape[1] * 256 / 224)}
        if kind == "Rescaling":  # p in [0, 1] becomes 255 · p · scale + offset
            std = 1 / (255 * config["scale"])
            preprocessing |= {"mean": (-config["offset"] * std,) * 3, "std": (std,) * 3}
    activations = [config.get("activation") for kind, config in layers if kind == "Dense"]
    sigmoid = activations[-1:] == ["sigmoid"]
    return Facts(preprocessing, None, "sigmoid" if sigmoid else None, tf_padding=True, epsilon=KERAS_EPSILON)


def _layers(description: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class and configuration of every layer, inner ones before the model that holds them."""
    if isinstance(description, dict):
        for value in description.values():
            yield from _layers(value)
        if isinstance(config := description.get("config"), dict):
            yield str(description.get("class_name")), config
    elif isinstance(description, list):
        for value in description:
            yield from _layers(value)


def _labels(names: Any) -> tuple[str, ...] | None:
    """None if they could not stand in a file of lines."""
    labels = tuple(" ".join(str(name).split()) for name in names or ())
    return labels if labels and all(labels) else None
