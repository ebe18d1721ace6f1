"""What ``add`` makes of a checkpoint computes what the library that saved it computes, on photos."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service import runtimes
from service.image import Pixels, inspect, preprocess
from service.model.artifact import Artifact
from service.model.runtime import RuntimeOptions
from service.store.add import add
from tests.documents import ROOT

pytestmark = [
    pytest.mark.extra,
    pytest.mark.torture,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras' arrays
]


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}; make torture does that")


Report = Callable[[str], None]
#: (N, S, S, 3) pixels, normalised as the manifest says → logits (N, classes)
Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]

PHOTOS = sorted((ROOT / "docs" / "photos").glob("*.jpg"))
CLASSES = 7
#: Of the largest logit.
CLOSE = 1e-3


def pixels(found: Artifact) -> list[Pixels]:
    transform = found.manifest.preprocessing.transform()
    data = [path.read_bytes() for path in PHOTOS]
    return [preprocess(each, inspect(each), transform, "exact") for each in data]


def compare(found: Artifact, forward: Forward, report: Report, what: str) -> None:
    images = pixels(found)
    runtime = runtimes.create(found, RuntimeOptions("openvino", "cpu"))
    ours = np.concatenate([runtime.run(image[np.newaxis]).logits for image in images])
    p = found.manifest.preprocessing
    normalised = (np.stack(images) / 255 - np.array(p.mean)) / np.array(p.std)
    theirs = forward(normalised.astype(np.float32))
    error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    same = int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
    different = len(set(theirs.argmax(axis=1).tolist()))
    report(f"{what}: logits within {error:.1e}, same class of {same} of {len(images)} photos ({different} classes)")
    assert error < CLOSE
    assert same == len(images)
    assert different > 1 or theirs.shape[1] == 1
    assert np.ptp(theirs, axis=0).min() > 10 * CLOSE * np.abs(theirs).max()  # photos differ


def settle(model: Any, side: int) -> None:
    """Give a torch model batch norms as after training: statistics of photos, small ones, where epsilon counts."""
    import torch
    from PIL import Image
    from torch import nn

    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0, 0.1 * (2 / fan_in) ** 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
        elif isinstance(module, nn.Linear):
            linear = module
            nn.init.normal_(module.weight, 0, 0.3)
    photos = [np.asarray(Image.open(path).convert("RGB").resize((side, side)), np.float32) for path in PHOTOS]
    batch = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        model.train()(batch)
        # Features of a random network are nearly the same for every image: only what differs should decide.
        answer = model.eval()(batch)
        linear.bias.sub_(getattr(answer, "logits", answer).mean(0))


def torch_forward(model: Any) -> Forward:
    import torch

    def forward(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            answer = model(torch.from_numpy(images).permute(0, 3, 1, 2))
        logits: NDArray[np.float32] = getattr(answer, "logits", answer).numpy()
        return logits

    return forward


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("".join(f"class {index}\n" for index in range(CLASSES)))
    return tmp_path / "labels.txt"


@needs("timm")
@pytest.mark.parametrize("variant", ["035", "050", "075", "100", "110d", "120d", "140"])
def test_timm(variant: str, seven: Path, tmp_path: Path, report: Report) -> None:
    import timm
    from safetensors.torch import save_file

    model = timm.create_model(f"mobilenetv2_{variant}", pretrained=False, num_classes=CLASSES)
    settle(model, 224)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    found = add(tmp_path / "store", tmp_path / "model.safetensors", seven, name="pets")
    compare(found, torch_forward(model), report, f"timm mobilenetv2_{variant}")


@needs("transformers")
@pytest.mark.parametrize(
    ("width", "size", "changes"),
    [
        (1.0, 224, {}),
        (1.4, 224, {"num_labels": 1001}),
        (0.75, 160, {}),
        (0.35, 96, {}),
        (0.5, 180, {}),  # inputs of odd sides
        (1.0, 224, {"tf_padding": False, "layer_norm_eps": 1e-5}),
        (0.75, 192, {"problem_type": "multi_label_classification"}),
    ],
)
def test_transformers(width: float, size: int, changes: dict[str, Any], tmp_path: Path, report: Report) -> None:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ImageProcessor

    names = {index: f"class {index}" for index in range(changes.pop("num_labels", CLASSES))}
    config = MobileNetV2Config(depth_multiplier=width, image_size=size, id2label=names, **changes)
    model = MobileNetV2ForImageClassification(config)
    settle(model, size)
    model.save_pretrained(tmp_path / "hub")
    resized = {"shortest_edge": round(size * 256 / 224)}
    MobileNetV2ImageProcessor(size=resized, crop_size={"height": size, "width": size}).save_pretrained(tmp_path / "hub")
    found = add(tmp_path / "store", tmp_path / "hub", name="pets")
    assert found.labels == tuple(names.values())
    assert found.manifest.preprocessing.crop_size == size
    assert found.manifest.head.activation == ("sigmoid" if "problem_type" in changes else "softmax")
    compare(found, torch_forward(model), report, f"Transformers {width} at {size}, {changes}")


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    import keras

    keras.utils.set_random_seed(0)
    return keras


def keras_network(keras: Any, width: float, size: int, **options: Any) -> Any:
    """With batch norms as after training, see ``settle``."""
    from PIL import Image

    model = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=width, weights=None, classes=CLASSES, **options
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        values = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            count = len(values[0])
            layer.set_weights([rng.uniform(0.5, 1.5, count), rng.normal(0, 0.3, count), *values[2:]])
        elif len(values) == 1:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            fan_in = np.prod(values[0].shape[:2] if depthwise else values[0].shape[:3])
            layer.set_weights([rng.normal(0, 0.1 * (2 / fan_in) ** 0.5, values[0].shape)])
        elif len(values) == 2:
            layer.set_weights([rng.normal(0, 0.3, values[0].shape), rng.normal(0, 0.3, CLASSES)])
    photos = [np.asarray(Image.open(path).convert("RGB").resize((size, size)), np.float32) for path in PHOTOS]
    batch = np.stack(photos) / 127.5 - 1
    model(batch, training=True)
    kernel, *bias = model.layers[-1].get_weights() or [None]
    if bias:  # what is the same for every photo should not decide
        model.layers[-1].set_weights([kernel, bias[0] - keras_forward(keras, model)(batch).mean(0)])
    return model


def keras_forward(keras: Any, model: Any) -> Forward:
    def forward(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = keras.ops.convert_to_numpy(model(images, training=False))
        return logits

    return forward


@needs("keras")
@pytest.mark.parametrize("how", ["x.keras", "x.h5", "x.weights.h5"])
@pytest.mark.parametrize(("width", "size"), [(1.0, 224), (0.35, 96), (1.4, 160), (0.5, 180)])
def test_keras(how: str, width: float, size: int, seven: Path, keras: Any, tmp_path: Path, report: Report) -> None:
    model = keras_network(keras, width, size, classifier_activation=None)
    model.compile(optimizer="adam", loss="mse")
    path = tmp_path / how
    if "weights" in how:
        model.save_weights(path)
    else:
        model.save(path)
    # Such a file does not say the size.
    sizes: dict[str, Any] = {"resize_size": size, "crop_size": size} if "weights" in how else {}
    found = add(tmp_path / "store", path, seven, name="pets", **sizes)
    assert found.manifest.preprocessing.crop_size == size
    compare(found, keras_forward(keras, model), report, f"Keras {width} at {size}, {how}")


@needs("keras")
@pytest.mark.parametrize("how", ["x.keras", "x.h5", "x.weights.h5"])
def test_a_model_around_that_of_keras(how: str, keras: Any, tmp_path: Path, report: Report) -> None:
    """Transfer learning as Keras' guide has it: rescaling, the frozen network, dropout, one output with a sigmoid."""
    base = keras_network(keras, 1.0, 160, include_top=False)
    base.trainable = False
    inputs = keras.Input((160, 160, 3))
    rescaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(base(rescaled, training=False))
    spread = keras.initializers.RandomNormal(stddev=0.3)
    output = keras.layers.Dense(1, activation="sigmoid", kernel_initializer=spread)(keras.layers.Dropout(0.2)(pooled))
    model = keras.Model(inputs, output)
    path = tmp_path / how
    model.save_weights(path) if "weights" in how else model.save(path)
    (tmp_path / "label.txt").write_text("dog\n")
    head: dict[str, Any] = {"head": "sigmoid", "crop_size": 160} if "weights" in how else {}
    found = add(tmp_path / "store", path, tmp_path / "label.txt", name="dogs", **head)
    assert found.manifest.head.activation == "sigmoid"
    dense = model.layers[-1]

    def forward(images: NDArray[np.float32]) -> NDArray[np.float32]:
        features = keras.ops.convert_to_numpy(base(images, training=False)).mean((1, 2))
        kernel, bias = dense.get_weights()
        logits: NDArray[np.float32] = features @ kernel + bias
        return logits

    compare(found, forward, report, f"Keras, a model around its own, {how}")


@needs("timm", "transformers")
def test_what_the_hub_holds_beside_the_weights_of_timm(seven: Path, tmp_path: Path) -> None:
    """``save_for_hf`` of timm writes the description that is read."""
    import timm
    from timm.models import save_for_hf

    model = timm.create_model("mobilenetv2_050", pretrained=False, num_classes=CLASSES)
    save_for_hf(model, tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())["pretrained_cfg"]
    found = add(tmp_path / "store", tmp_path / "hub", seven, name="pets").manifest.preprocessing
    transform = timm.data.create_transform(**timm.data.resolve_data_config(config))
    resize, crop, _, normalize = transform.transforms
    assert (found.resize_size, found.crop_size) == (resize.size, crop.size[0])
    assert found.interpolation == resize.interpolation.value
    assert found.mean == pytest.approx(normalize.mean.tolist())
    assert found.std == pytest.approx(normalize.std.tolist())
