"""``model_store/aliases.json``: which versions of which models are to be served. ``store.aliases`` writes it.

    {"mobilenet_v2": {"stable": "2",
                      "canary": {"version": "3", "percent": 10},
                      "shadow": {"version": "4", "sample": 0.1}}}

Of a model without an entry, and without the file, the settings decide which version is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from service.config import MAX_MODELS
from service.errors import OperatorError
from service.model.artifact import NAME

ALIASES = "aliases.json"

_Name = Annotated[str, Field(pattern=NAME)]
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Canary:
    """A version that answers ``percent`` of the requests."""

    __pydantic_config__ = _STRICT

    version: _Name
    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


@dataclass(frozen=True)
class Shadow:
    """A version that is also asked, for a fraction ``sample`` of the images, and whose answers nobody gets."""

    __pydantic_config__ = _STRICT

    version: _Name
    sample: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class Aliases:
    """The versions of one model. ValueError if one stands twice."""

    __pydantic_config__ = _STRICT

    stable: _Name
    canary: Canary | None = None
    shadow: Shadow | None = None

    def __post_init__(self) -> None:
        if len(set(self.versions)) < len(self.versions):
            raise ValueError("stable, canary and shadow must be different versions")

    @property
    def versions(self) -> tuple[str, ...]:
        """The stable one first."""
        return (self.stable, *(other.version for other in (self.canary, self.shadow) if other is not None))


_DESIRED = TypeAdapter(Annotated[dict[_Name, Aliases], Field(max_length=MAX_MODELS)])


def read(store: Path) -> dict[str, Aliases]:
    """What the file of ``store`` says, nothing without one. OperatorError if it cannot be read or is invalid."""
    content = read_bytes(store)
    return {} if content is None else parse(content)


def read_bytes(store: Path) -> bytes | None:
    try:
        return (store / ALIASES).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(f"{store / ALIASES} cannot be read: {error.strerror}") from None


def parse(data: bytes) -> dict[str, Aliases]:
    """OperatorError, in one sentence, if ``data`` is invalid."""
    try:
        return _DESIRED.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise OperatorError(f"{ALIASES} is invalid at {where or 'top level'}: {message}") from None


def dump(desired: dict[str, Aliases]) -> bytes:
    return _DESIRED.dump_json(desired, indent=2, exclude_none=True) + b"\n"
