"""The client for asyncio; the other one is a shell around it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeAlias, TypedDict, TypeVar, Unpack

import numpy as np

from mobilenet_client import results
from mobilenet_client.bulk import Images, in_order
from mobilenet_client.errors import BadImage, ServiceError, ServiceUnavailable, Timeout
from mobilenet_client.images import ImageLike, encoded
from mobilenet_client.results import Classification, Embed, Embedding, Embeddings, Explanation, Question
from mobilenet_client.wire import Settings, Wire

T = TypeVar("T")
P = ParamSpec("P")
Each: TypeAlias = AsyncGenerator[tuple[Any, T | ServiceError], None]


class Run(TypedDict, total=False):
    """Options of the forms for many images."""

    errors: Literal["return", "raise"]  # an image's error: in its place, or raised
    progress: Callable[[int], object]  # called with the number of finished images, on the event loop's thread


def _listed(
    each: Callable[Concatenate[AsyncClient, P], Each[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, list[T | ServiceError]]]:
    async def many(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> list[T | ServiceError]:
        return [outcome async for _, outcome in each(self, *args, **kwargs)]

    return many


@dataclass(eq=False, repr=False)
class AsyncClient(Settings):
    __doc__ = Settings.__doc__

    def __post_init__(self) -> None:
        self._wire = Wire(self)

    async def classify(self, image: ImageLike, top_k: int = 5) -> Classification:
        return await self._ask(results.classify(top_k), image, self.timeout)

    def classify_iter(self, images: Images, top_k: int = 5, **run: Unpack[Run]) -> Each[Classification]:
        return self._each(results.classify(top_k), images, **run)

    async def explain(
        self, image: ImageLike, top_k: int | None = None, classes: Iterable[int] | None = None, embedding: bool = False
    ) -> Explanation:
        return await self._ask(results.explain(top_k, classes, embedding), image, self.timeout)

    def explain_iter(
        self,
        images: Images,
        top_k: int | None = None,
        classes: Iterable[int] | None = None,
        embedding: bool = False,
        **run: Unpack[Run],
    ) -> Each[Explanation]:
        return self._each(results.explain(top_k, classes, embedding), images, **run)

    async def embed(self, image: ImageLike, normalize: bool = True) -> Embedding:
        return await self._ask(Embed(normalize, self.embedding_id), image, self.timeout)

    def embed_iter(self, images: Images, normalize: bool = True, **run: Unpack[Run]) -> Each[Embedding]:
        return self._each(Embed(normalize, self.embedding_id), images, **run)

    classify_many = _listed(classify_iter)
    explain_many = _listed(explain_iter)

    async def embed_many(self, images: Images, normalize: bool = True, **run: Unpack[Run]) -> Embeddings:
        question = Embed(normalize, self.embedding_id)
        outcomes = [outcome async for _, outcome in self._each(question, images, **run)]
        found = {row: outcome for row, outcome in enumerate(outcomes) if isinstance(outcome, Embedding)}
        failed = {row: outcome for row, outcome in enumerate(outcomes) if isinstance(outcome, ServiceError)}
        dim = next((embedding.vector.size for embedding in found.values()), 0)
        vectors = np.full((len(outcomes), dim), np.nan, np.float32)
        for row, embedding in found.items():
            vectors[row] = embedding.vector
        warnings = {row: embedding.warnings for row, embedding in found.items() if embedding.warnings}
        return Embeddings(vectors, failed, question.embedding_id, warnings)

    async def _ask(self, question: Question[T], image: ImageLike, within: float) -> T:
        answer = await self._wire.post(question.path, question.headers, await encoded(image), within)
        try:
            return question.read(answer)
        except (ValueError, LookupError, TypeError) as error:
            raise ServiceError(200, "Unexpected answer", f"this is not the service's: {error}") from error

    async def _each(self, question: Question[T], images: Images, **run: Unpack[Run]) -> Each[T]:
        finished = 0

        async def ask(image: ImageLike) -> T | ServiceError:
            nonlocal finished
            began = time.monotonic()
            try:
                outcome: T | ServiceError = await self._ask(question, image, max(self.timeout, self.retry_for))
            except ServiceError as error:
                if self._concerns_all(error, began):
                    raise
                outcome = error
            finished += 1
            if "progress" in run:
                run["progress"](finished)
            return outcome

        async with aclosing(in_order(images, ask, self.concurrency)) as outcomes:
            async for key, outcome in outcomes:
                if run.get("errors") == "raise" and isinstance(outcome, ServiceError):
                    raise outcome
                yield key, outcome

    def _concerns_all(self, error: ServiceError, began: float) -> bool:
        """Whether the next images would end the same way. An image that alone has no answer may be the reason."""
        if isinstance(error, ServiceUnavailable | Timeout):
            return self._wire.answered < began
        return not isinstance(error, BadImage) and error.status != 500

    async def aclose(self) -> None:
        await self._wire.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()
