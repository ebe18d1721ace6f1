"""A MobileNetV2 is recognised by the names of its tensors, whichever library saved it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.errors import ArtifactError
from service.model.artifact import Architecture, Artifact
from service.model.network import Network
from service.store import recognise
from service.store.add import add
from service.store.write import serialize
from tests.store import libraries
from tests.store.libraries import Tensors

#: As Transformers writes a network without TensorFlow's padding.
PLAIN = {"tf_padding": False, "layer_norm_eps": 1e-5, "id2label": {"0": "cat", "2": "bird", "1": "dog"}}
PROCESSOR = {
    "do_resize": True, "size": {"shortest_edge": 200}, "resample": 3, "do_center_crop": True,
    "crop_size": {"height": 192, "width": 192}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4],
}  # fmt: skip


def folder(path: Path, tensors: Tensors, **files: object) -> Path:
    """As on the Hub."""
    path.mkdir()
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, path / "model.safetensors")
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def hub(path: Path, weights: Tensors, config: object = PLAIN, processor: object = PROCESSOR) -> Path:
    tensors = libraries.renamed(weights, libraries.transformers_pairs(), "classifier")
    return folder(path, tensors, config=config, preprocessor_config=processor)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "net.backbone.", "_orig_mod.module.", "model._orig_mod.student."]
)
@pytest.mark.parametrize("head", ["classifier.1", "classifier", "classifier.3", "head"])
def test_any_prefix_and_any_name_of_the_classifier(
    prefix: str, head: str, weights: Tensors, original: Artifact, labels: Path, tmp_path: Path
) -> None:
    for part in ("weight", "bias"):
        weights[f"{head}.{part}"] = weights.pop(f"classifier.1.{part}")
    tensors = {prefix + name: values for name, values in weights.items()}
    if prefix:
        tensors["criterion.weight"] = np.ones(3, np.float32)  # of a loss, beside the network
    save_file(tensors, tmp_path / "x.safetensors")
    found = add(tmp_path / "store", tmp_path / "x.safetensors", labels, name="pets")
    assert found.digest == original.digest
    assert found.manifest.architecture == original.manifest.architecture


def test_a_classifier_beside_the_network_and_without_a_bias(weights: Tensors, labels: Path, tmp_path: Path) -> None:
    del weights["classifier.1.bias"]
    head = weights.pop("classifier.1.weight")
    tensors = {f"backbone.{name}": values for name, values in weights.items()} | {"fc.weight": head}
    save_file(tensors, tmp_path / "x.safetensors")
    found = add(tmp_path / "store", tmp_path / "x.safetensors", labels, name="pets").load_weights()
    np.testing.assert_array_equal(found["classifier.1.weight"], head)
    assert not found["classifier.1.bias"].any()


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ({}, (256, 224, "bicubic", (0.485, 0.456, 0.406))),
        (
            {"input_size": [3, 192, 192], "crop_pct": 0.95, "interpolation": "bilinear", "mean": [0.1, 0.2, 0.3]},
            (202, 192, "bilinear", (0.1, 0.2, 0.3)),
        ),
    ],
)
def test_timm(
    described: dict[str, Any], expected: tuple[Any, ...], weights: Tensors, original: Artifact, tmp_path: Path
) -> None:
    tensors = libraries.renamed(weights, libraries.timm_pairs(), "classifier")
    config = {"architecture": "mobilenetv2_010", "pretrained_cfg": described, "label_names": ["cat", "a dog", "b"]}
    found = add(tmp_path / "store", folder(tmp_path / "x", tensors, config=config), name="pets")
    assert found.digest == original.digest
    assert found.labels == ("cat", "a dog", "b")
    assert found.manifest.source.origin == "the folder x, made with timm"
    p = found.manifest.preprocessing
    assert (p.resize_size, p.crop_size, p.interpolation, p.mean) == expected
    assert not p.rotate_180


def test_transformers(weights: Tensors, original: Artifact, tmp_path: Path) -> None:
    found = add(tmp_path / "store", hub(tmp_path / "x", weights), name="pets")
    assert found.digest == original.digest
    assert found.labels == ("cat", "dog", "bird")
    assert found.manifest.head.activation == "softmax"
    assert found.manifest.preprocessing.model_dump() == {
        **{"resize_size": 200, "crop_size": 192, "interpolation": "bicubic"},
        **{"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "rotate_180": False},
    }


@pytest.mark.parametrize("given", ["folder", "file"])
def test_transformers_with_what_it_does_by_default(
    given: str, weights: Tensors, original: Artifact, labels: Path, tmp_path: Path
) -> None:
    """TensorFlow's padding and epsilon, pixels in [-1, 1]."""
    source = hub(tmp_path / "x", weights, {}, {})
    if given == "file":
        source = source / "model.safetensors"
        for beside in source.parent.glob("*.json"):
            beside.unlink()
    found = add(tmp_path / "store", source, labels, name="pets")
    assert found.manifest.preprocessing.model_dump() == {
        **{"resize_size": 256, "crop_size": 224, "interpolation": "bilinear"},
        **{"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "rotate_180": True},
    }
    for name, values in found.load_weights().items():
        ours = weights[name]
        if name.endswith("running_var"):
            np.testing.assert_allclose(values, ours + (1e-3 - 1e-5), rtol=1e-6)
        else:
            np.testing.assert_array_equal(values, ours[:, :, ::-1, ::-1] if ours.ndim == 4 else ours)


def test_a_network_of_several_labels(weights: Tensors, tmp_path: Path) -> None:
    source = hub(tmp_path / "x", weights, PLAIN | {"problem_type": "multi_label_classification"})
    assert add(tmp_path / "store", source, name="pets").manifest.head.activation == "sigmoid"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"do_rescale": False, "image_mean": 127.5, "image_std": 127.5}, ((0.5,) * 3, (0.5,) * 3)),
        ({"rescale_factor": 2 / 255, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}, ((0.5,) * 3, (0.5,) * 3)),
        ({"do_normalize": False}, ((0.0,) * 3, (1.0,) * 3)),
        ({"size": 200, "crop_size": 192}, ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))),
    ],
)
def test_processors_of_transformers(
    change: dict[str, Any], expected: tuple[Any, ...], weights: Tensors, tmp_path: Path
) -> None:
    source = hub(tmp_path / "x", weights, processor=PROCESSOR | change)
    found = add(tmp_path / "store", source, name="pets").manifest.preprocessing
    assert (found.mean, found.std) == expected
    assert (found.resize_size, found.crop_size) == (200, 192)


@pytest.mark.parametrize(
    ("config", "processor", "message"),
    [
        (PLAIN | {"output_stride": 16}, PROCESSOR, "says output_stride 16; only 32 can be served"),
        (PLAIN | {"hidden_act": "relu"}, PROCESSOR, "says hidden_act relu; only relu6"),
        (PLAIN | {"problem_type": "regression"}, PROCESSOR, "makes a regression"),
        (PLAIN | {"id2label": {}}, PROCESSOR, "has 3 classes; give --labels"),
        (PLAIN | {"id2label": {"0": "a", "1": "b"}}, PROCESSOR, "has 3 classes, but there are 2 labels"),
        (PLAIN | {"id2label": {"0": "a", "1": " ", "2": "c"}}, PROCESSOR, "has 3 classes; give --labels"),
        (
            PLAIN | {"id2label": {"cat": 1}},
            PROCESSOR,
            "what Transformers wrote beside .* cannot be understood",
        ),
        (PLAIN, PROCESSOR | {"size": {"height": 224, "width": 224}}, "give --resize-size and --crop-size"),
        (PLAIN, PROCESSOR | {"do_center_crop": False}, "give --resize-size and --crop-size"),
        (PLAIN, PROCESSOR | {"resample": 0}, "give --interpolation"),
        (PLAIN, PROCESSOR | {"image_std": [0, 0, 0]}, "preprocessing.std.0: Input should be greater than 0"),
        (PLAIN, PROCESSOR | {"rescale_factor": 0}, "cannot be understood"),
    ],
)
def test_what_transformers_can_say_and_we_cannot_do(
    config: dict[str, Any], processor: dict[str, Any], message: str, weights: Tensors, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        add(tmp_path / "store", hub(tmp_path / "x", weights, config, processor), name="pets")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_options_have_the_last_word(weights: Tensors, labels: Path, tmp_path: Path) -> None:
    source = hub(tmp_path / "x", weights, PLAIN, PROCESSOR | {"do_center_crop": False})
    labels.write_text("a\nb\nc\n")
    found = add(tmp_path / "store", source, labels, name="pets", resize_size=160, crop_size=128, mean=(0.1, 0.1, 0.1))
    assert found.labels == ("a", "b", "c")
    p = found.manifest.preprocessing
    assert (p.resize_size, p.crop_size, p.interpolation, p.mean) == (160, 128, "bicubic", (0.1, 0.1, 0.1))


def test_a_damaged_description(weights: Tensors, tmp_path: Path) -> None:
    source = hub(tmp_path / "x", weights)
    (source / "config.json").write_text('{"tf_padding": ')
    with pytest.raises(ArtifactError, match=r"config.json beside the weights cannot be read"):
        add(tmp_path / "store", source, name="pets")


# The architecture


def noise(network: Network) -> Tensors:
    rng = np.random.default_rng(0)
    return {name: rng.random(shape, np.float32) for name, shape in network.parameter_shapes().items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"width_mult": 0.35},
        {"width_mult": 0.66},
        {"width_mult": 1.4},
        # timm's mobilenetv2_110d, with fewer blocks: stem and head as at 1.0.
        {
            "inverted_residual_setting": [
                (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 72, 4, 2), (6, 104, 3, 1), (6, 176, 3, 2),
                (6, 352, 1, 1),
            ]
        },
        {
            "width_mult": 0.5,
            "inverted_residual_setting": [
                (1, 16, 1, 1), (3, 24, 2, 2), (6, 32, 3, 2), (6, 112, 4, 2), (6, 96, 3, 1), (2, 160, 3, 2),
                (6, 320, 1, 1),
            ],
        },
    ],
)  # fmt: skip
def test_widths_and_expansions_are_read_from_the_shapes(changes: dict[str, Any], tmp_path: Path) -> None:
    network = Architecture.model_validate(changes).network()
    save_file(noise(network), tmp_path / "x.safetensors")
    assert recognise.read(tmp_path / "x.safetensors").architecture.network() == network


def test_more_blocks_than_in_the_paper(tmp_path: Path) -> None:
    """Nothing but the names of timm tells their stages: mobilenetv2_120d has more blocks, and stem and head of 1.0."""
    rows = [(1, 16, 1, 1), (6, 32, 3, 2), (6, 40, 5, 2), (6, 80, 6, 2), (6, 112, 5, 1), (6, 192, 5, 2), (6, 384, 1, 1)]
    tensors = noise(Architecture.model_validate({"inverted_residual_setting": rows}).network())
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match=r"has 26 blocks; state --inverted-residual-setting"):
        recognise.read(tmp_path / "x.safetensors")
    names = libraries.timm_pairs([row[2] for row in rows])
    save_file(libraries.renamed(tensors, names, "classifier", 26), tmp_path / "x.safetensors")
    found = recognise.read(tmp_path / "x.safetensors")
    assert found.architecture.inverted_residual_setting == rows
    assert serialize(found.tensors) == serialize(tensors)
