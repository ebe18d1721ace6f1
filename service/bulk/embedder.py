"""Photos to Arrow tables inside a process of someone else: an actor of Ray Data, a worker of Spark, a script.

The model is loaded once per process, by the first call; an actor takes one thread unless it is told to take more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from service.bulk.results import Classes, Kind, Result, Vectors, arrow, infer_with, schema, table
from service.config import Settings
from service.model.artifact import Artifact
from service.model.artifact import load as load_artifact
from service.model.outputs import DEFAULT_TOP_K
from service.serving.local import served_locally
from service.serving.memory_limits import USUAL_PIXELS

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

#: No variable of the environment has such a name: nothing but the arguments counts.
_NO_PREFIX = "="


class _Tables(ABC):
    """What both have in common. Its state are its arguments, so it can be pickled."""

    _unit_length = False

    def __init__(
        self,
        model: str = "mobilenet_v2/1",
        *,
        store: str | os.PathLike[str] | None = None,
        precision: Literal["fp32", "bf16", "int8"] = "fp32",
        decode: Literal["exact", "fast"] = "exact",
        threads: int = 1,
        max_pixels: int = USUAL_PIXELS,
    ) -> None:
        name, _, version = model.partition("/")
        self._given: dict[str, Any] = {"model": name, "version": version or "1", "precision": precision}
        self._given |= {"decode": decode, "runners": threads, "max_pixels": max_pixels}
        self._given |= {"device": "cpu", "runtime": "openvino", "threads_per_runner": 1, "_env_prefix": _NO_PREFIX}
        if store is not None:
            self._given["model_store"] = Path(store)
        assert self._settings  # what is wrong with them is told here, not on another machine

    @property
    def _settings(self) -> Settings:
        """Not kept: where the model store is by default depends on the machine."""
        return Settings(**self._given)

    @abstractmethod
    def _kind(self, artifact: Artifact) -> Kind:
        """What is kept of each photo."""

    @property
    def embedding_id(self) -> str:
        """Equal for results that may be compared."""
        settings = self._settings
        made = settings.precision, settings.runtime, settings.decode
        return _artifact(settings).embedding_id(*made, unit_length=self._unit_length)

    @property
    def schema(self) -> Any:
        """pyarrow's schema of the tables, which says in its metadata what made them."""
        artifact = _artifact(self._settings)
        return schema(self._kind(artifact), {"model": artifact.reference, "embedding_id": self.embedding_id})

    def table(self, ids: Sequence[str], blobs: Sequence[bytes | memoryview | None]) -> Any:
        """A pyarrow.Table, one row per photo in their order. A photo's fault is its row's ``error``.

        Raises OperatorError if the model cannot be loaded or has failed for good.
        """
        kind, made = self._kind(_artifact(self._settings)), self.schema
        return table(kind, made, ids, _engine(self._settings).results(kind, [*zip(ids, blobs, strict=True)]))

    def __call__(self, batch: Any) -> Any:
        """For Ray Data: columns ``bytes`` (or Spark's ``content``) and ``path``, of a dict or a table."""
        names = batch.keys() if isinstance(batch, dict) else batch.schema.names
        columns = (batch[name] for name in ("path", "bytes" if "bytes" in names else "content"))
        return self.table(*(each.to_pylist() if hasattr(each, "to_pylist") else [*each] for each in columns))

    def arrow_batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """For Spark's mapInArrow: the same over batches, with plain lists, as Spark knows none of a fixed size."""
        pa = arrow()
        made = self.schema
        for index, field in enumerate(made):
            if pa.types.is_fixed_size_list(field.type):
                made = made.set(index, field.with_type(pa.list_(field.type.value_type)))
        for batch in batches:
            yield from self(batch).cast(made).to_batches()


class Embedder(_Tables):
    """Feature vectors: ``path``, ``embedding`` (null where there is an error), ``warnings``, ``error``."""

    def __init__(self, model: str = "mobilenet_v2/1", *, normalize: bool = True, **others: Any) -> None:
        super().__init__(model, **others)
        self._unit_length = normalize

    def _kind(self, artifact: Artifact) -> Kind:
        return Vectors(artifact.network.embedding_dim, self._unit_length)


class Classifier(_Tables):
    """The strongest classes: ``path``, ``labels``, ``indices``, ``probabilities``, ``warnings``, ``error``."""

    def __init__(self, model: str = "mobilenet_v2/1", *, top_k: int = DEFAULT_TOP_K, **others: Any) -> None:
        super().__init__(model, **others)
        self._top_k = top_k

    def _kind(self, artifact: Artifact) -> Kind:
        return Classes(artifact.labels, self._top_k, artifact.manifest.head)


class _Engine:
    """An engine on an event loop of its own: the caller's thread may have one already, as in a notebook.

    Its threads are daemons: it lives as long as the process.
    """

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bulk", daemon=True)
        self._thread.start()
        self._serving = served_locally(settings, _artifact(settings), logger.error, wide=False)
        try:
            self._served = self._call(self._serving.__aenter__())
        except BaseException:
            self._stop()
            raise

    def results(self, kind: Kind, photos: Iterable[tuple[str, bytes | memoryview | None]]) -> list[Result]:
        infer = infer_with(self._served, kind)

        async def every() -> list[Result]:
            return await asyncio.gather(*(infer(name, bytes(data or b"")) for name, data in photos))

        return self._call(every())

    def close(self) -> None:
        self._call(self._serving.__aexit__(None, None, None))
        self._stop()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_loading = threading.Lock()
#: By process: threads do not survive a fork.
_engines: dict[tuple[int, Settings], _Engine] = {}


def _engine(settings: Settings) -> _Engine:
    key = (os.getpid(), settings)
    with _loading:
        if key not in _engines:
            _engines[key] = _Engine(settings)
        return _engines[key]


@cache
def _artifact(settings: Settings) -> Artifact:
    return load_artifact(settings.model_store, settings.model, settings.version)
