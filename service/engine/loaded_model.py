"""One model of an engine that holds several, as an ``EngineClient`` of its own."""

from __future__ import annotations

from service.engine.client import Readiness, RuntimeInfo
from service.engine.local import LocalEngine


class LoadedModel:
    """``model`` (``name/version``) of ``engine``; ``aclose`` unloads it."""

    def __init__(self, engine: LocalEngine, model: str) -> None:
        self.infer = engine.infer
        self._engine = engine
        self._model = model

    @property
    def info(self) -> RuntimeInfo | None:
        return self._engine.info_of(self._model)

    async def ready(self) -> Readiness:
        return await self._engine.ready_with(self._model)

    async def aclose(self) -> None:
        await self._engine.unload(self._model)
