"""What the supervisor gives a process it starts, as JSON on its standard input: settings hold secrets, and everybody
can read a command line."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from service.config import Settings
from service.errors import OperatorError
from service.model import artifact
from service.model.artifact import Artifact


@dataclass(frozen=True, slots=True)
class Handover:
    """File descriptors are inherited under the same numbers."""

    name: str  # engine-0, worker-1: in logs, metrics and process lists
    parent: int
    metrics: str  # the directory that all share
    settings: dict[str, Any]
    digest: str  # of the weights at the supervisor's start
    engines: int  # how many share this machine's cores
    listener: int = -1  # a worker's is the service's port, an engine's a Unix socket
    heartbeat: int = -1
    device: str = ""  # of an engine
    addresses: list[str] = field(default_factory=list)  # of the engines, for a worker
    counts: int = -1  # of connections, for a worker …
    place: int = -1  # … and which is its own

    @property
    def inherited(self) -> list[int]:
        """Descriptors that the process must have."""
        return [number for number in (self.listener, self.heartbeat, self.counts) if number >= 0]

    def dump(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def take(cls) -> Handover:
        """From standard input. ValueError if the supervisor went while it wrote."""
        return cls(**json.load(sys.stdin))

    def load_settings(self) -> Settings:
        return Settings(**self.settings)

    def load_artifact(self, settings: Settings) -> Artifact:
        """OperatorError if it is not what the other processes serve."""
        found = artifact.load(settings.model_store, settings.model, settings.version)
        if found.digest != self.digest:
            raise OperatorError(f"{found.reference} has changed on disk since the service was started; restart it")
        return found


def dump_settings(settings: Settings) -> dict[str, Any]:
    """Keys are read once, at the start of the service, not at each start of a worker."""
    resolved = settings.model_copy(update={"api_keys": settings.accepted_keys(), "api_keys_file": None})
    return resolved.model_dump(mode="json")
