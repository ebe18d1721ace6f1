"""What is served: each model by its name, the versions of it that are loaded, and which of them a request gets.

    name ─► ServedModel ─► the version, alias or Embedding-Id asked for, else the canary's split ─► Served, leased

Used only from the event loop's thread. A request keeps the version that it began with: a version is unloaded only when
nobody leases it any more.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from service.errors import InvalidParameter, NotReady, UnknownModel
from service.metrics import Metrics
from service.model.aliases import Aliases
from service.serving.intake import Answer, Outcome, Photo, Served
from service.serving.shadow import ShadowQueue
from service.serving.split import Split


class Wish(NamedTuple):
    """What a request asks for."""

    version: str | None = None
    alias: str | None = None
    embedding_ids: Sequence[str] = ()
    splits: bool = True  # whether the canary may answer without being asked for
    key: bytes = b""  # equal for requests that the same version should answer; empty: the body decides


class Lease:
    """The version that answers a request, until the end of the block.

    While ``split`` is not None the body decides between that version and the canary.
    """

    def __init__(self, served: Served, canary: Served | None = None, split: Split | None = None) -> None:
        self.served = served
        self.split = split
        self._canary = canary

    def decide(self, body: bytes) -> bool:
        """Whether the version has changed, because of the ``body``."""
        assert self.split is not None
        assert self._canary is not None
        if not self.split.chooses(key_of(body)):
            return False
        self.served = self._canary
        return True

    def __enter__(self) -> Lease:
        self._held = [self.served] if self._canary is None else [self.served, self._canary]
        for served in self._held:
            served.leases.append(self)
        return self

    def __exit__(self, *raised: object) -> None:
        for served in self._held:
            served.leases.remove(self)


def key_of(body: bytes) -> bytes:
    """The key of a photo that came without one."""
    return hashlib.sha256(body).digest()


class ServedModel:
    """One name. ``versions`` are loaded: those of the ``aliases``, and perhaps the previous stable one."""

    def __init__(self, stable: Served, metrics: Metrics, shadows: ShadowQueue) -> None:
        self.name, version = stable.reference.split("/")
        self.versions = {version: stable}
        self.previous: str | None = None
        self.split: Split | None = None
        self._metrics, self._shadows = metrics, shadows
        self.aliases = Aliases(version)

    @property
    def stable(self) -> Served:
        return self.versions[self.aliases.stable]

    @property
    def by_alias(self) -> dict[str, str]:
        """The versions that the aliases name."""
        others = {"canary": self.aliases.canary, "shadow": self.aliases.shadow}
        return {"stable": self.aliases.stable} | {alias: held.version for alias, held in others.items() if held}

    def switch(self, aliases: Aliases) -> None:
        """From now on requests get the versions of ``aliases``, all of which are loaded."""
        if aliases.stable != self.aliases.stable:
            self.previous = self.aliases.stable
        if aliases.canary != self.aliases.canary or aliases.stable != self.aliases.stable:
            self.split = Split(self.name, aliases.canary.percent, self._metrics) if aliases.canary else None
        self.aliases = aliases
        self._metrics.show_aliases(
            self.name,
            aliases.canary.percent if aliases.canary else None,
            aliases.shadow.sample if aliases.shadow else None,
        )

    def lease(self, wish: Wish) -> Lease:
        """Raises UnknownModel or InvalidParameter."""
        if wish.version is not None and wish.alias is not None:
            raise InvalidParameter("version, alias: only one of the two may be given")
        if wish.version is not None or wish.alias is not None:
            return Lease(self._asked_for(wish))
        if wish.embedding_ids:
            return Lease(self._with_vectors(wish.embedding_ids[0]))
        if not wish.splits or self.split is None or not self.split.effective:
            return Lease(self.stable)
        assert self.aliases.canary is not None
        canary = self.versions[self.aliases.canary.version]
        if wish.key:
            return Lease(canary if self.split.chooses(wish.key) else self.stable)
        return Lease(self.stable, canary, self.split)

    def answered(self, served: Served, photos: Sequence[Photo], outcomes: Sequence[Outcome]) -> None:
        """To be called when the answer of ``served`` has been sent: for the canary's health, and for the shadow."""
        if self.split is not None and served.version in (self.by_alias["stable"], self.by_alias["canary"]):
            self.split.record(served.version == self.by_alias["canary"], outcomes)
        if (shadow := self.aliases.shadow) is not None:
            candidate = self.versions[shadow.version]
            for photo, outcome in zip(photos, outcomes, strict=True):
                if isinstance(outcome, Answer) and served is not candidate:
                    key = key_of(photo.data)
                    self._shadows.offer(candidate, shadow.sample, key, photo.data, served, outcome)

    def _asked_for(self, wish: Wish) -> Served:
        version = wish.version if wish.alias is None else self.by_alias.get(wish.alias)
        if version is None or (served := self.versions.get(version)) is None:
            versions, aliases = ", ".join(sorted(self.versions)), ", ".join(self.by_alias)
            raise UnknownModel(f"of {self.name}, the versions here are {versions}, and the aliases {aliases}")
        return served

    def _with_vectors(self, embedding_id: str) -> Served:
        """The version whose vectors they are; else the stable one, which will refuse."""
        for served in (self.stable, *self.versions.values()):
            with contextlib.suppress(NotReady):
                if embedding_id in (served.embedding_id(unit_length=True), served.embedding_id(unit_length=False)):
                    return served
        return self.stable


class Registry:
    """The models by name; the first is the default one."""

    def __init__(self, stable: Iterable[Served], metrics: Metrics) -> None:
        self.shadows = ShadowQueue(metrics)
        models = [ServedModel(served, metrics, self.shadows) for served in stable]
        self._models = {model.name: model for model in models}
        self.default = models[0]

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def named(self, name: str) -> ServedModel:
        """Raises UnknownModel."""
        if (model := self._models.get(name)) is None:
            raise UnknownModel(f"the models here are {', '.join(self._models)}")
        return model

    async def ready(self) -> str:
        """Empty if the stable version of every model can infer, else why not."""
        for model in self:
            if not (state := await model.stable.engine.ready()).ok:
                return state.reason
        return ""
