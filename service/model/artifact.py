"""A model version on disk: read, check, hand out. Nothing here writes; ``store/`` makes artifacts.

    model_store/<name>/<version>/
        model.json             the manifest (committed): everything a reader must know about the weights
        labels.txt             one label a line, in class order (committed)
        weights.safetensors    float32 tensors under torchvision's names (made by ``models pull`` / ``models add``)
        int8.xml, int8.bin     a quantised graph in OpenVINO's format, where ``models quantize`` made one

A file whose sha256 is not the manifest's is refused. No pickle is read, here or anywhere else at serving time.
"""

from __future__ import annotations

import builtins
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from service.errors import ArtifactError
from service.image import Transform
from service.model.network import PAPER_STAGES, Network, Stage, build

MANIFEST = "model.json"
LABELS = "labels.txt"
WEIGHTS = "weights.safetensors"

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(_Strict):
    """The arguments of torchvision's ``MobileNetV2`` that these weights were made with."""

    width_mult: _Positive = 1.0
    num_classes: int = Field(1000, ge=1)
    round_nearest: int = Field(8, ge=1)
    #: Rows (t, c, n, s); None is the paper's table.
    inverted_residual_setting: list[tuple[int, int, int, int]] | None = None

    def network(self) -> Network:
        rows = self.inverted_residual_setting
        stages = PAPER_STAGES if rows is None else tuple(Stage(*row) for row in rows)
        return build(
            width_mult=self.width_mult,
            num_classes=self.num_classes,
            round_nearest=self.round_nearest,
            stages=stages,
        )


class Preprocessing(_Strict):
    """What these weights expect of their pixels. Belongs to the weights, never to the code.

    The first three fields describe the uint8 image that is sent to a runtime; the others are part of the graph.
    """

    resize_size: int = Field(ge=1)  # of the shorter side, in pixels
    crop_size: int = Field(ge=32)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[_Finite, _Finite, _Finite]  # of pixels scaled to [0, 1], RGB
    std: tuple[_Positive, _Positive, _Positive]
    #: The weights stand rotated by 180° and expect a rotated image. Exact for weights trained with TensorFlow's
    #: "SAME" padding, which pads stride-2 convolutions at the bottom and right only.
    rotate_180: bool = False

    def transform(self) -> Transform:
        return Transform(self.resize_size, self.crop_size, self.interpolation)


class WeightsSource(_Strict):
    """Where the weights come from; ``kind`` says which puller of ``store/`` knows how to get them."""

    kind: Literal["keras_wheel", "torchvision", "local"]
    origin: str  # for people: project, paper, page
    url: str | None = None  # kind torchvision
    #: Kind keras_wheel: name==version, and nothing else that pip would take for an option or a URL.
    package: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._+!-]*$")
    package_sha256: str | None = None
    member: str | None = None  # path inside the package
    sha256: str | None = None  # of the source file, whole …
    sha256_prefix: str | None = None  # … or its first hex digits, where only those are published


class FileDigest(_Strict):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)

    @classmethod
    def of(cls, data: builtins.bytes) -> FileDigest:
        return cls(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


class Derived(_Strict):
    """A graph that was made from the weights by a search, so that it cannot be rebuilt at load: files and origin."""

    graph: FileDigest  # <precision>.xml
    constants: FileDigest  # <precision>.bin
    #: ``Manifest.fingerprint`` of what it was made from.
    made_from: str = Field(pattern=r"^[0-9a-f]{64}$")
    recipe: str  # for people: how it was made …
    calibration: str  # … and on what


class Manifest(_Strict):
    """``model.json``."""

    name: str = Field(pattern=_NAME)
    version: str = Field(pattern=_NAME)
    description: str
    licence: str
    architecture: Architecture
    preprocessing: Preprocessing
    source: WeightsSource
    labels: FileDigest
    #: None until a first pull of weights whose converted digest nobody has published; the pull writes it here.
    weights: FileDigest | None = None
    #: Figures with their conditions, shown by ``/models``; measured, never typed in from a paper.
    measured: dict[str, int | float | str] = Field(default_factory=dict)
    #: Graphs by precision.
    derived: dict[Literal["int8"], Derived] = Field(default_factory=dict)

    def fingerprint(self) -> str:
        """sha256 of all that a graph is made from: weights, architecture, preprocessing."""
        weights = self.weights.sha256 if self.weights else ""
        parts = (weights, self.architecture.model_dump_json(), self.preprocessing.model_dump_json())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @field_validator("architecture")
    @classmethod
    def _describes_a_network(cls, value: Architecture) -> Architecture:
        value.network()
        return value


@dataclass(frozen=True)
class Artifact:
    """A verified manifest with its labels; weights are read and verified by ``load_weights``."""

    directory: Path
    manifest: Manifest
    labels: tuple[str, ...]

    @cached_property
    def network(self) -> Network:
        return self.manifest.architecture.network()

    @property
    def digest(self) -> str:
        """sha256 of the weights: what an answer depends on besides the image."""
        if self.manifest.weights is None:
            raise ArtifactError(f"{self.reference}: weights were never pulled; {self.remedy}")
        return self.manifest.weights.sha256

    @property
    def reference(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"

    @property
    def remedy(self) -> str:
        if self.manifest.source.kind == "local":
            return "add the checkpoint again with: mobilenet-service models add"
        return f"run: mobilenet-service models pull {self.reference}"

    def load_weights(self) -> dict[str, NDArray[np.float32]]:
        """Every tensor by its torchvision name, float32, shapes as ``Network.parameter_shapes()`` says.

        Raises ArtifactError if the file is missing, does not match the manifest's digest or does not fit the
        architecture.
        """
        data = self._read(WEIGHTS, self.digest, self.remedy)
        tensors = parse_safetensors(data, self.reference)
        check_tensors(tensors, self.network, self.reference)
        return tensors

    def load_derived(self, precision: Literal["int8"]) -> tuple[bytes, bytes]:
        """Graph (XML) and constants of the graph for ``precision``, both verified.

        Raises ArtifactError if it was never made, is missing or damaged, or was made from something else than the
        manifest describes now.
        """
        remedy = f"run: mobilenet-service models quantize {self.reference}"
        entry = self.manifest.derived.get(precision)
        if entry is None:
            raise ArtifactError(f"{self.reference}: there is no {precision} graph yet; {remedy}")
        if entry.made_from != self.manifest.fingerprint():
            raise ArtifactError(f"{self.reference}: the {precision} graph was made from other weights; {remedy}")
        graph, constants = derived_files(precision)
        return (
            self._read(graph, entry.graph.sha256, remedy),
            self._read(constants, entry.constants.sha256, remedy),
        )

    def _read(self, name: str, sha256: str, remedy: str) -> bytes:
        try:
            data = (self.directory / name).read_bytes()
        except FileNotFoundError:
            raise ArtifactError(f"{self.reference}: {name} is not there; {remedy}") from None
        except OSError as error:
            raise ArtifactError(f"{self.reference}: {name} cannot be read: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ArtifactError(f"{self.reference}: {name} is corrupt (its sha256 is not the manifest's); {remedy}")
        return data


def derived_files(precision: Literal["int8"]) -> tuple[str, str]:
    """Names of a derived graph's files: the graph, its constants."""
    return f"{precision}.xml", f"{precision}.bin"


def load(store: Path, name: str, version: str) -> Artifact:
    """Read manifest and labels of ``store/name/version`` and check them against each other.

    Raises ArtifactError with one sentence and a remedy.
    """
    directory = store / name / version
    manifest = read_manifest(directory)
    if (manifest.name, manifest.version) != (name, version):
        raise ArtifactError(f"{name}/{version}: its {MANIFEST} is that of {manifest.name}/{manifest.version}")
    try:
        raw = (directory / LABELS).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{name}/{version}: {LABELS} cannot be read: {error.strerror}") from None
    if hashlib.sha256(raw).hexdigest() != manifest.labels.sha256:
        raise ArtifactError(f"{name}/{version}: {LABELS} is not the file that the manifest describes (sha256)")
    labels = parse_labels(raw)
    if len(labels) != manifest.architecture.num_classes:
        raise ArtifactError(f"{name}/{version}: {len(labels)} labels for {manifest.architecture.num_classes} classes")
    return Artifact(directory, manifest, labels)


def read_manifest(directory: Path) -> Manifest:
    reference = f"{directory.parent.name}/{directory.name}"
    try:
        return Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ArtifactError(
            f"no model {reference} in {directory.parent.parent}; see: mobilenet-service models list"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{reference}: {MANIFEST} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{reference}: {MANIFEST} is invalid at {where or 'top level'}: {first['msg']}") from None


def parse_labels(raw: bytes) -> tuple[str, ...]:
    """One label a line, UTF-8, blank lines at the end ignored."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ArtifactError(f"{LABELS} is not UTF-8") from None
    return tuple(line.strip() for line in text.rstrip().split("\n"))


def parse_safetensors(data: bytes, reference: str) -> dict[str, NDArray[np.float32]]:
    # Imported here: reading a manifest (``models list``) must not pay for it.
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_bytes

    try:
        tensors: dict[str, NDArray[np.float32]] = load_bytes(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(f"{reference}: not a readable safetensors file ({error})") from None
    return tensors


def check_tensors(tensors: dict[str, NDArray[np.float32]], net: Network, reference: str) -> None:
    """Names, shapes, dtype and finiteness of ``tensors`` are those of ``net``; else ArtifactError."""
    expected = net.parameter_shapes()
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ArtifactError(f"{reference}: {len(missing)} tensors are missing, the first is {missing[0]}")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise ArtifactError(f"{reference}: {len(unknown)} tensors do not belong here, the first is {unknown[0]}")
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ArtifactError(f"{reference}: {name} has shape {tensor.shape}, the architecture needs {shape}")
        if tensor.dtype != np.float32:
            raise ArtifactError(f"{reference}: {name} is {tensor.dtype}, not float32")
        if not np.isfinite(tensor).all():
            raise ArtifactError(f"{reference}: {name} holds values that are not finite")
        if name.endswith("running_var") and (tensor < 0).any():
            raise ArtifactError(f"{reference}: {name} holds negative variances")
