"""The settings, defined once for the environment (``MOBILENET_…``), the command line and the documentation.

Built in ``cli`` and passed down; nothing else reads the environment.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Auto = Literal["auto"]

_DEVICE = r"auto|cpu|cuda(:\d+)?"
#: Each model has metrics of its own.
MAX_MODELS = 8
_ORIGIN = r"https?://([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?"


def _default_store() -> Path:
    """In a checkout the store beside the code, else (an installed package) one in the working directory."""
    beside_code = Path(__file__).resolve().parent.parent / "model_store"
    return beside_code if beside_code.is_dir() else Path("model_store")


class Settings(BaseSettings):
    """Configuration of the service; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="MOBILENET_",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        protected_namespaces=(),
    )

    model_store: Path = Field(default_factory=_default_store)
    """Directory of model versions, <name>/<version>/. Default: model_store/ beside the code if it exists, else in the
    working directory."""

    model: str = "mobilenet_v2"
    """Name of the model to serve."""

    version: str = "1"
    """Version of the model to serve, unless aliases.json in the model store has an entry for the model."""

    models: Annotated[tuple[str, ...], NoDecode] = ()
    """Several models to serve instead of model and version: names, or name/version, separated by commas. The first one
    answers where a path names none. Each is at /models/<name>/classify and so on."""

    keep_previous: int = Field(default=600, ge=0, le=86_400)
    """Seconds for which the previous stable version of a model stays loaded, so that a rollback is immediate."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface."""

    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port to listen on; 0 chooses a free port and prints it. Platforms may set it by AIP_HTTP_PORT or PORT, which
    count where MOBILENET_PORT is not set."""

    uds: Path | None = None
    """Unix socket to listen on instead of host and port. Every user who can reach the path may connect."""

    max_connections: int = Field(default=10_000, ge=1, le=1_000_000)
    """Most open connections; beyond it, an idle connection is closed for each new one. Lowered if the limit on open
    files requires it."""

    keep_alive_timeout: int = Field(default=75, ge=1, le=86_400)
    """Seconds after which an idle connection is closed. Should be longer than the idle time-out of a balancer in front,
    so that no request meets a connection that has just been closed; Google's balancers use 600."""

    forwarded_allow_ips: Annotated[tuple[str, ...], NoDecode] = ()
    """Proxies whose X-Forwarded-For is believed: addresses and networks, separated by commas, or * for any. The client,
    in logs and for max_client_share, is then the last address in it that is none of these. Empty: not believed."""

    device: str = "auto"
    """auto (CUDA if there is a usable GPU, else the CPU), cpu, cuda or cuda:N."""

    workers: int = Field(default=0, ge=0, le=256)
    """Number of worker processes, which read, decode and answer, in front of engine processes, which compute. 0: one
    process does everything. Limits such as max_in_flight apply to each worker."""

    devices: Annotated[tuple[str, ...], NoDecode] = ()
    """With workers: the devices of the engine processes, one process per device, separated by commas (cuda:0,cuda:1).
    Default: one engine on device."""

    runtime: Literal["auto", "openvino", "torch"] = "auto"
    """auto (openvino on a CPU, torch on CUDA), openvino or torch."""

    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    """Arithmetic of the network: fp32; bf16 (CPU or GPU, if it supports it); fp16 (GPU); int8 (CPU, after models
    quantize). All but fp32 change answers slightly."""

    decode: Literal["exact", "fast"] = "exact"
    """exact: pixels bit-equal to torchvision's transform; fast: large JPEGs are decoded at a reduced scale, but at no
    less than twice the target size."""

    damaged: Literal["warn", "refuse"] = "warn"
    """What is done with a JPEG that libjpeg finds damaged: warn answers and quotes the damage, refuse answers 422. One
    that is cut short is 422 either way."""

    max_batch_size: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    """Most images in one forward pass; auto measures the cost of batches at warm-up and chooses the size beyond which
    doubling no longer pays."""

    max_queue_delay_ms: float = Field(default=0.0, ge=0, le=1000)
    """How long the first image of a batch may wait for more images while a runner is idle. 0: not at all."""

    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] | Auto = "auto"
    """Most images admitted at once, whether being read, decoded, queued or inferred; large images count as several.
    More are answered with 503. auto: 256, less if memory is limited."""

    max_client_share: float = Field(default=1.0, gt=0, le=1)
    """Fraction of max_in_flight that one client may hold; more is answered with 429. A client is an API key, or an
    address if no keys are set. 1: no such limit."""

    max_images: int = Field(default=64, ge=1, le=1000)
    """Most images in one multipart request."""

    request_timeout_ms: int = Field(default=10_000, ge=1, le=600_000)
    """Deadline of a request without an X-Request-Timeout-Ms header, and the longest that such a header may set."""

    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    """Largest request body, in bytes."""

    max_pixels: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Largest image, in pixels (width × height), judged from its header before it is decoded. auto: 50 million, less
    if memory is limited."""

    decode_threads: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    """Threads that decode images, per worker if there are workers. auto without workers: 0 for openvino, whose runners
    decode; one per core for torch. auto with workers: each worker's share of the cores, at least two."""

    runners: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    """Threads that each run one batch at a time; auto: one per core on a CPU, two on a GPU."""

    threads_per_runner: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    """Cores the network uses for one batch on a CPU; auto: cores divided by runners."""

    drain_timeout_ms: int = Field(default=20_000, ge=1000, le=600_000)
    """How long requests in flight may take to finish after SIGTERM before they are cut off, rounded up to whole
    seconds. Kubernetes kills after 30 seconds by default."""

    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(default=(), repr=False)
    """Valid API keys, separated by commas. Empty: no key is required."""

    api_keys_file: Path | None = None
    """File of further keys, one per line; blank lines and lines that begin with # are skipped. Read at start and
    at each SIGHUP."""

    protect_metrics: bool = False
    """Require a key for /metrics too."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins, such as https://example.com, whose web pages may ask from a browser, separated by commas, or * for any.
    Empty: only the service's own page may."""

    docs: bool = True
    """Serve /docs and /openapi.json; without page, / redirects to /docs."""

    page: bool = True
    """Serve the web page at /."""

    log_format: Literal["text", "json"] = "text"
    """One line per record: text for people, json for machines."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest severity that is logged."""

    access_log: bool = True
    """Log a line for every request, except successful probes and scrapes."""

    log_probes: bool = False
    """Log successful probes and scrapes of metrics as well."""

    @field_validator("model", "version")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if "/" in value:
            raise ValueError("must not contain /; model and version are two settings")
        return value

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        if re.fullmatch(_DEVICE, value) is None:
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return value

    @field_validator("models", "devices", "forwarded_allow_ips", "cors_origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",")) if value.strip() else ()

    @field_validator("models")
    @classmethod
    def _check_models(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [reference.partition("/")[0] for reference in value]
        if len(set(names)) < len(names) or not all(re.fullmatch(r"[^/]+(/[^/]+)?", reference) for reference in value):
            raise ValueError("must be different names, or name/version, separated by commas")
        if len(names) > MAX_MODELS:
            raise ValueError(f"at most {MAX_MODELS} models can be served")
        return value

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for device in value:
            if re.fullmatch(_DEVICE, device) is None:
                raise ValueError(
                    f"{device!r} is not a device; devices are auto, cpu, cuda or cuda:N, separated by commas"
                )
        if value and not info.data.get("workers"):
            raise ValueError("engine processes need workers in front of them; set workers, or device for one process")
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                _ = network == "*" or ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r} is no address, network such as 10.0.0.0/8, or *") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin not in ("*", "null") and re.fullmatch(_ORIGIN, origin) is None:
                raise ValueError(f"{origin!r} is no origin; one is https://example.com, without a path, or *")
        return value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return _valid_keys(value.split(",")) if isinstance(value, str) else value

    @field_validator("api_keys_file")
    @classmethod
    def _check_keys_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            _read_keys(value)
        return value

    @field_validator("protect_metrics")
    @classmethod
    def _check_that_there_are_keys(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("api_keys") and info.data.get("api_keys_file") is None:
            raise ValueError("needs a key; set api_keys or api_keys_file")
        return value

    @property
    def versions(self) -> dict[str, str]:
        """The version of each model to serve, where no alias decides; the default model first."""
        references = self.models or (f"{self.model}/{self.version}",)
        return {name: version or "1" for name, _, version in (reference.partition("/") for reference in references)}

    @property
    def engine_devices(self) -> tuple[str, ...]:
        """With workers: the device of each engine process."""
        return self.devices or (self.device,)

    def accepted_keys(self) -> tuple[str, ...]:
        """The keys of api_keys and those of api_keys_file."""
        return (*self.api_keys, *(() if self.api_keys_file is None else _read_keys(self.api_keys_file)))


def _read_keys(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text("utf-8", errors="replace").split("\n")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return _valid_keys(line for line in lines if not line.lstrip().startswith("#"))


def _valid_keys(parts: Iterable[str]) -> tuple[str, ...]:
    """The keys in ``parts``, stripped, without empty parts. Errors never show a key."""
    keys = tuple(key for part in parts if (key := part.strip()))
    if not keys:  # probably a mistake, which would let everyone in
        raise ValueError("contains no key; leave it unset to require none")
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise ValueError("a key must consist of printable ASCII characters without spaces")
    return keys
