"""``Served``: one model that is being served, with everything that requests need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from service.engine import Decode, EngineClient
from service.errors import BadImage
from service.image import Header, Limits, Mode, Preview, Transform, inspect, preprocess
from service.model.artifact import Artifact


@dataclass(frozen=True, slots=True)
class Served:
    """An artifact, the engine that runs it, and its preprocessing."""

    artifact: Artifact
    engine: EngineClient
    transform: Transform
    mode: Mode
    limits: Limits

    @property
    def reference(self) -> str:
        """``name/version``."""
        return self.artifact.reference

    @property
    def labels(self) -> Sequence[str]:
        return self.artifact.labels

    @property
    def num_classes(self) -> int:
        return self.artifact.network.num_classes

    def inspect(self, data: bytes) -> Header:
        """The header of an encoded image. Raises UnsupportedFormat, BadImage or ImageTooLarge."""
        if not data:
            raise BadImage("the image is empty")
        return inspect(data, self.limits)

    def source(self, data: bytes, header: Header, preview: Preview | None = None) -> Decode:
        """The engine's source for an image whose ``header`` is known; ``preview`` receives a small copy of it."""
        call = partial(preprocess, data, header, self.transform, self.mode, self.limits, preview)
        return Decode(call, header.pixels)
