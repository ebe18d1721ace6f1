"""What a photo becomes, and the columns of many: a vector or classes, with warnings; or an error.

An ``Infer`` makes one photo's result. Here it is ``infer_with`` over a served model; another may ask a service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.engine.client import Decode
from service.errors import Draining, NotReady, OperatorError, ServiceError, require_extra
from service.image import Findings, Pixels, inspect
from service.model.outputs import SOFTMAX, Float32, Head, ItemOutput, Prediction, classify, normalize
from service.serving.intake import Served
from service.serving.local import infer_locally


class Result(NamedTuple):
    """What is kept of one photo; ``value`` is None if there is an error."""

    value: Any = None  # what a Kind keeps
    warnings: Sequence[str] = ()
    error: ServiceError | None = None


#: Takes a photo's id and its bytes. A photo's fault is its result; OperatorError if no photo can be answered any more.
Infer = Callable[[str, bytes], Awaitable[Result]]


@dataclass(frozen=True)
class Vectors:
    """Keeps the embedding. ``types`` are pyarrow's, of ``columns``; ``split`` turns values and nulls into columns."""

    dim: int
    unit_length: bool
    columns = ("embedding",)

    def keep(self, output: ItemOutput) -> Float32:
        return normalize(output.embedding) if self.unit_length else output.embedding

    def types(self) -> Sequence[Any]:
        return [arrow().list_(arrow().float32(), self.dim)]

    def split(self, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        return [values]


@dataclass(frozen=True)
class Classes:
    """Keeps the strongest classes."""

    labels: Sequence[str]
    top_k: int
    head: Head = SOFTMAX
    columns = ("labels", "indices", "probabilities")

    def keep(self, output: ItemOutput) -> list[Prediction]:
        return classify(output, self.labels, self.top_k, self.head)

    def types(self) -> Sequence[Any]:
        pa = arrow()
        return [pa.list_(pa.string()), pa.list_(pa.int32()), pa.list_(pa.float32())]

    def split(self, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        names = ("label", "index", "probability")
        return [[value and [getattr(each, name) for each in value] for value in values] for name in names]


#: Which part of a model's output is kept, and its columns.
Kind = Vectors | Classes


def infer_with(served: Served, kind: Kind) -> Infer:
    """``Infer`` by ``served``; the photo's header is read on the engine's thread, too."""

    async def infer(name: str, data: bytes) -> Result:
        findings = Findings()

        def pixels() -> Pixels:
            header = inspect(data, served.limits)
            findings.warnings += header.warnings
            return served.source(data, header, findings).call()

        try:
            output = await infer_locally(served, Decode(pixels))
        except (NotReady, Draining) as error:
            raise OperatorError(f"the work has stopped: {error.detail}") from None
        except ServiceError as error:
            return Result(error=error)
        return Result(kind.keep(output), findings.warnings)

    return infer


def arrow() -> Any:
    """The module pyarrow, which only those need who use tables. Raises MissingExtra."""
    require_extra("an Arrow or Parquet table", "bulk", "pyarrow")
    import pyarrow

    return pyarrow


def schema(kind: Kind, metadata: Mapping[str, str]) -> Any:
    """The schema of a table of results."""
    pa = arrow()
    fields = [("path", pa.string()), *zip(kind.columns, kind.types(), strict=True)]
    return pa.schema([*fields, ("warnings", pa.list_(pa.string())), ("error", pa.string())], dict(metadata))


def table(kind: Kind, schema: Any, ids: Sequence[str], results: Sequence[Result]) -> Any:
    """One row per photo. Arrow's strings are UTF-8: other bytes of a path stand in it as in JSON, ``\\udce9``."""
    columns = [
        [name.encode("utf-8", "backslashreplace").decode() for name in ids],
        *kind.split([result.value for result in results]),
        [result.warnings for result in results],
        [result.error and result.error.detail for result in results],
    ]
    return arrow().table(columns, schema=schema)
