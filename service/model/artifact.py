"""A model version on disk, read and checked. ``store/`` writes; nothing here does.

    model_store/<name>/<version>/
        model.json             the manifest (committed): all facts about the weights
        labels.txt             one label per line, in class order (committed)
        weights.safetensors    float32 tensors under torchvision's names (made by ``models pull`` / ``models add``)
        int8.xml, int8.bin     a quantised graph in OpenVINO's format, if ``models quantize`` has been run

A file whose sha256 differs from the manifest's is refused. No pickle is ever read while serving.
"""

from __future__ import annotations

import builtins
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import ArtifactError
from service.image import Transform
from service.model.network import PAPER_STAGES, Network, Stage, build
from service.model.outputs import Head

MANIFEST = "model.json"
LABELS = "labels.txt"
WEIGHTS = "weights.safetensors"

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # of a model, of a version

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(_Strict):
    """The arguments of torchvision's ``MobileNetV2`` with which these weights were trained."""

    width_mult: _Positive = 1.0
    num_classes: int = Field(1000, ge=1)
    round_nearest: int = Field(8, ge=1)
    #: Rows (t, c, n, s); None means the paper's table.
    inverted_residual_setting: list[tuple[int, int, int, int]] | None = None

    @model_validator(mode="after")
    def _describes_a_network(self) -> Self:
        self.network()
        return self

    def network(self) -> Network:
        rows = self.inverted_residual_setting
        stages = PAPER_STAGES if rows is None else tuple(Stage(*row) for row in rows)
        return build(
            width_mult=self.width_mult, num_classes=self.num_classes, round_nearest=self.round_nearest, stages=stages
        )


class Preprocessing(_Strict):
    """The preprocessing that these weights were trained with.

    The first three fields describe the uint8 image that a runtime receives; the others become part of the graph.
    """

    resize_size: int = Field(ge=1)  # of the shorter side, in pixels
    crop_size: int = Field(ge=32)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[_Finite, _Finite, _Finite]  # of pixels scaled to [0, 1], RGB
    std: tuple[_Positive, _Positive, _Positive]
    #: The kernels are rotated by 180° and expect a rotated image: TensorFlow's "SAME" padding (``store.keras``).
    rotate_180: bool = False

    def transform(self) -> Transform:
        return Transform(self.resize_size, self.crop_size, self.interpolation)


class WeightsSource(_Strict):
    """Where the weights come from; ``kind`` selects how ``pull`` gets them."""

    kind: Literal["keras_wheel", "torchvision", "local"]
    origin: str  # for people: project, paper, page
    url: str | None = None  # kind torchvision
    #: Kind keras_wheel: name==version. The pattern excludes what pip would take for an option or a URL.
    package: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._+!-]*$")
    package_sha256: str | None = None
    member: str | None = None  # path inside the package
    sha256: str | None = None  # of the source file, complete …
    sha256_prefix: str | None = None  # … or its first hex digits, if only those are published


class FileDigest(_Strict):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)

    @classmethod
    def of(cls, data: builtins.bytes) -> FileDigest:
        return cls(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


class Derived(_Strict):
    """A graph made from the weights by a process too slow to repeat at load: its files and origin."""

    graph: FileDigest  # <precision>.xml
    constants: FileDigest  # <precision>.bin
    #: ``Manifest.fingerprint`` when the graph was made.
    made_from: str = Field(pattern=r"^[0-9a-f]{64}$")
    recipe: str  # for people: how it was made
    calibration: str  # for people: on which images


class Manifest(_Strict):
    """The content of model.json."""

    name: str = Field(pattern=NAME)
    version: str = Field(pattern=NAME)
    description: str
    licence: str
    architecture: Architecture
    preprocessing: Preprocessing
    source: WeightsSource
    head: Head = Head()
    labels: FileDigest
    #: None before the first pull of weights whose converted digest is not known; the pull sets it.
    weights: FileDigest | None = None
    #: Figures measured by this project, with their conditions; shown by ``/models``.
    measured: dict[str, int | float | str] = Field(default_factory=dict)
    #: Graphs by precision.
    derived: dict[Literal["int8"], Derived] = Field(default_factory=dict)

    def fingerprint(self) -> str:
        """sha256 of everything that determines a graph: weights, architecture, preprocessing."""
        weights = self.weights.sha256 if self.weights else ""
        parts = (weights, self.architecture.model_dump_json(), self.preprocessing.model_dump_json())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


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
        """sha256 of the weights."""
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

    def embedding_id(self, precision: str, runtime: str, decode: str, *, unit_length: bool) -> str:
        """Equal for vectors that may be compared: reference;precision;decode;n1 or n0;digest, all that makes a vector.

        The runtime stands behind a precision below fp32, where runtimes differ by more than rounding. The digest is of
        weights, architecture and preprocessing; for int8 also of its graph.
        """
        made_of = self.manifest.fingerprint()
        if precision == "int8" and (graph := self.manifest.derived.get("int8")):
            made_of += f"\n{graph.graph.sha256}\n{graph.constants.sha256}"
        digest = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        lossy = () if precision == "fp32" else (runtime,)
        return ";".join((self.reference, precision, *lossy, decode, "n1" if unit_length else "n0", digest))

    def load_weights(self) -> dict[str, NDArray[np.float32]]:
        """Every tensor by its torchvision name, float32, shapes as ``Network.parameter_shapes()`` says.

        Raises ArtifactError if the file is missing, does not match the manifest's digest or does not fit the
        architecture.
        """
        data = self.read(WEIGHTS, self.digest, self.remedy)
        tensors = parse_safetensors(data, self.reference)
        check_tensors(tensors, self.network, self.reference)
        return tensors

    def load_derived(self, precision: Literal["int8"]) -> tuple[bytes, bytes]:
        """Graph (XML) and constants of the graph for ``precision``, both verified.

        Raises ArtifactError if it was never made, is missing or damaged, or does not belong to these weights.
        """
        remedy = f"run: mobilenet-service models quantize {self.reference}"
        if (entry := self.manifest.derived.get(precision)) is None:
            raise ArtifactError(f"{self.reference}: there is no {precision} graph yet; {remedy}")
        if entry.made_from != self.manifest.fingerprint():
            raise ArtifactError(f"{self.reference}: the {precision} graph was made from other weights; {remedy}")
        graph, constants = derived_files(precision)
        return self.read(graph, entry.graph.sha256, remedy), self.read(constants, entry.constants.sha256, remedy)

    def read(self, name: str, sha256: str, remedy: str) -> bytes:
        """The verified content of the file ``name``."""
        try:
            data = (self.directory / name).read_bytes()
        except FileNotFoundError:
            raise ArtifactError(f"{self.reference}: {name} is missing; {remedy}") from None
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
        store = directory.parent.parent
        raise ArtifactError(f"no model {reference} in {store}; see: mobilenet-service models list") from None
    except OSError as error:
        raise ArtifactError(f"{reference}: {MANIFEST} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{reference}: {MANIFEST} is invalid at {where or 'top level'}: {first['msg']}") from None


def parse_labels(raw: bytes) -> tuple[str, ...]:
    """One label per line, UTF-8; blank lines at the end are ignored."""
    try:
        return tuple(line.strip() for line in raw.decode("utf-8").rstrip().split("\n"))
    except UnicodeDecodeError:
        raise ArtifactError(f"{LABELS} is not UTF-8") from None


def parse_safetensors(data: bytes, reference: str) -> dict[str, NDArray[np.float32]]:
    # Imported here because reading a manifest (``models list``) does not need it.
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_bytes

    try:
        tensors: dict[str, NDArray[np.float32]] = load_bytes(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(f"{reference}: not a readable safetensors file ({error})") from None
    return tensors


def check_tensors(tensors: dict[str, NDArray[np.float32]], network: Network, reference: str) -> None:
    """Names, shapes, dtype and finiteness of ``tensors`` are those of ``network``; else ArtifactError."""
    expected = network.parameter_shapes()
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
