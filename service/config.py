"""Every setting, once: the environment (``MOBILENET_…``), the command line and the documentation read this class.

Built in the composition root (``cli``) and passed down; nothing reads the environment anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Auto = Literal["auto"]

_DEVICE = r"auto|cpu|cuda(:\d+)?"


def _default_store() -> Path:
    """The store beside the code in a checkout; the working directory's otherwise (an installed package)."""
    beside_code = Path(__file__).resolve().parent.parent / "model_store"
    return beside_code if beside_code.is_dir() else Path("model_store")


class Settings(BaseSettings):
    """Configuration of the service. Frozen: a running process never changes its mind."""

    model_config = SettingsConfigDict(
        env_prefix="MOBILENET_",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        protected_namespaces=(),
    )

    model_store: Path = Field(default_factory=_default_store)
    """Directory of model versions, <name>/<version>/. Default: model_store/ beside the code, else in the working
    directory."""

    model: str = "mobilenet_v2"
    """Name of the model to serve."""

    version: str = "1"
    """Version of the model to serve."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface."""

    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port to listen on; 0 takes a free one and prints it."""

    max_connections: int = Field(default=10_000, ge=1, le=1_000_000)
    """Open connections; for one more, one that waits for nothing is closed. Never more than the file limit allows."""

    device: str = "auto"
    """auto (CUDA where it is, else CPU), cpu, cuda or cuda:N."""

    workers: int = Field(default=0, ge=0, le=256)
    """Processes that read, decode and answer, in front of engine processes that compute. 0: one process does all.
    Limits like max_in_flight are each worker's."""

    devices: Annotated[tuple[str, ...], NoDecode] = ()
    """With workers: the devices of the engine processes, one each, separated by commas (cuda:0,cuda:1). Default: one
    engine on device."""

    runtime: Literal["auto", "openvino", "torch"] = "auto"
    """auto (openvino on a CPU, torch on CUDA), openvino or torch."""

    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    """Arithmetic of the network: fp32; bf16 (a CPU or GPU that has it); fp16 (GPU); int8 (CPU, after models
    quantize). All but fp32 change answers slightly."""

    decode: Literal["exact", "fast"] = "exact"
    """exact: pixels bit-equal to torchvision's transform; fast: large JPEGs are decoded at a reduced scale, never
    below twice the target."""

    max_batch_size: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    """Most images in one forward pass; auto measures the cost of batches at warm-up and takes the knee."""

    max_queue_delay_ms: float = Field(default=0.0, ge=0, le=1000)
    """How long the first image of a batch may wait for company while a runner is idle. 0: never."""

    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] | Auto = "auto"
    """Images admitted at once, being read, decoded, queued or inferred; large ones count as several. More are
    answered 503. auto: 256, less where memory is limited."""

    max_client_share: float = Field(default=1.0, gt=0, le=1)
    """Most of max_in_flight that one client may hold, 0.25 for a quarter; more is answered 429. A client is an API key,
    or an address where no keys are set. 1: no such limit."""

    max_images: int = Field(default=64, ge=1, le=1000)
    """Most images in one multipart request."""

    request_timeout_ms: int = Field(default=10_000, ge=1, le=600_000)
    """Deadline of a request that brings no X-Request-Timeout-Ms header, and the most such a header may ask for."""

    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    """Largest request body, in bytes."""

    max_pixels: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Largest image, in pixels (width × height), judged from its header before it is decoded. auto: 50 million, less
    where memory is limited."""

    decode_threads: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    """Threads that decode images, in each worker where there are workers; auto: none beside the runners for openvino,
    one a core for torch, two a worker or its share of the cores."""

    runners: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    """Threads that each run one batch at a time; auto: one a core on a CPU, two on a GPU."""

    threads_per_runner: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    """Cores the network uses for one batch on a CPU; auto: cores divided by runners."""

    drain_timeout_ms: int = Field(default=20_000, ge=1000, le=600_000)
    """How long requests in flight may take to finish after SIGTERM before they are cut off; less than the 30 seconds
    after which Kubernetes kills. Rounded up to whole seconds."""

    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(default=(), repr=False)
    """Accepted API keys, separated by commas; empty: no key is asked for."""

    api_keys_file: Path | None = None
    """File of further keys, one a line; blank lines and lines that begin with # are skipped. Read once, at start."""

    protect_metrics: bool = False
    """Ask for a key at /metrics too."""

    docs: bool = True
    """Serve /docs and /openapi.json; without page, lead from / there."""

    page: bool = True
    """Serve the page for people at /."""

    log_format: Literal["text", "json"] = "text"
    """One line a record: text for people, json for machines."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe record that is logged."""

    access_log: bool = True
    """Log a line for every request."""

    @field_validator("model", "version")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if "/" in value:
            raise ValueError("a name without / is wanted; model and version are two settings")
        return value

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        if re.fullmatch(_DEVICE, value) is None:
            raise ValueError("auto, cpu, cuda or cuda:N is wanted")
        return value

    @field_validator("devices", mode="before")
    @classmethod
    def _split_devices(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for device in value:
            if re.fullmatch(_DEVICE, device) is None:
                raise ValueError(f"{device!r} is no device; auto, cpu, cuda or cuda:N, separated by commas")
        if value and not info.data.get("workers"):
            raise ValueError("engine processes need workers in front of them; set workers, or device for one process")
        return value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return _keys(value.split(","))

    @field_validator("api_keys_file")
    @classmethod
    def _check_keys_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            _keys_of(value)
        return value

    @field_validator("protect_metrics")
    @classmethod
    def _check_that_there_are_keys(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("api_keys") and info.data.get("api_keys_file") is None:
            raise ValueError("there is no key to ask for; set api_keys or api_keys_file")
        return value

    @property
    def engine_devices(self) -> tuple[str, ...]:
        """With workers: the device of each engine process."""
        return self.devices or (self.device,)

    def accepted_keys(self) -> tuple[str, ...]:
        """Those of the environment and those of the file."""
        return (*self.api_keys, *(() if self.api_keys_file is None else _keys_of(self.api_keys_file)))


def _keys_of(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text("utf-8", errors="replace").split("\n")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return _keys(line for line in lines if not line.lstrip().startswith("#"))


def _keys(parts: Iterable[str]) -> tuple[str, ...]:
    """Stripped, empty ones left out. The errors never show a key."""
    keys = tuple(key for part in parts if (key := part.strip()))
    if not keys:  # a slip that would leave the door open
        raise ValueError("holds no key; unset it to ask for none")
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise ValueError("a key is made of printable ASCII characters without spaces")
    return keys
