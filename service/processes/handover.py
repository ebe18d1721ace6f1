"""What the supervisor passes to each process it starts: JSON on standard input, because a command line is public."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from service.config import Settings
from service.errors import OperatorError
from service.model.artifact import Artifact
from service.model.artifact import load as load_artifact


@dataclass(frozen=True, slots=True)
class Handover:
    """File descriptors are inherited under the same numbers; -1 means none."""

    name: str  # engine-0, worker-1: in logs, metrics and process lists
    parent: int  # the supervisor's process id
    metrics_directory: str  # shared by all processes
    settings: dict[str, Any]
    digest: str  # of the weights when the supervisor started
    engines: int  # number of engine processes that share this machine's cores
    listener: int = -1  # worker: the service's port; engine: a Unix socket
    heartbeat: int = -1  # pipe to the supervisor
    device: str = ""  # engine only
    addresses: list[str] = field(default_factory=list)  # worker only: the engines' sockets
    counts: int = -1  # worker only: shared memory of ``ConnectionCounts``
    worker_index: int = -1  # worker only: its own among the counts

    @property
    def inherited(self) -> list[int]:
        """File descriptors that the process needs."""
        return [number for number in (self.listener, self.heartbeat, self.counts) if number >= 0]

    def dump(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def read(cls) -> Handover:
        """Read standard input. ValueError if the supervisor died while it was writing."""
        return cls(**json.load(sys.stdin))

    def load_settings(self) -> Settings:
        return Settings(**self.settings)

    def load_artifact(self, settings: Settings) -> Artifact:
        """OperatorError if its weights differ from those that the other processes serve."""
        artifact = load_artifact(settings.model_store, settings.model, settings.version)
        if artifact.digest != self.digest:
            raise OperatorError(f"{artifact.reference} has changed on disk since the service was started; restart it")
        return artifact


def dump_settings(settings: Settings) -> dict[str, Any]:
    """Settings with the keys of ``api_keys_file`` in ``api_keys``: the file is read once, when the service starts."""
    resolved = settings.model_copy(update={"api_keys": settings.accepted_keys(), "api_keys_file": None})
    return resolved.model_dump(mode="json")
