"""``Infer`` by services that run elsewhere, through the client library; visitors of theirs go first."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

from service import errors
from service.bulk.results import Infer, Kind, Result, Vectors
from service.errors import OperatorError, ServiceError, require_extra
from service.model.outputs import SOFTMAX, Head

#: Requests at once, to all services together.
_CONCURRENCY = 64
#: Seconds for a photo, repetitions included: a service may restart meanwhile.
_PATIENCE_S = 300.0
_HELLO_S = 10.0

#: By their titles in problem documents.
_ERRORS = {
    kind.title: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)
}


class Remote(NamedTuple):
    """Services that all serve one model."""

    urls: Sequence[str]
    key: str | None
    reference: str
    embedding_dim: int
    unit_id: str  # the embedding_id of vectors of unit length
    labels: Sequence[str] = ()  # they come with the classes,
    head: Head = SOFTMAX  # and so do probabilities
    facts: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def find(cls, urls: Sequence[str], key: str | None) -> Remote:
        """What the first of them serves. Raises OperatorError."""
        require_extra("--url", "client", "mobilenet_client")
        if not all(url.startswith(("http://", "https://")) for url in urls):
            raise OperatorError("--url must begin with http:// or https://")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"{urls[0].rstrip('/')}/models", headers=headers)  # noqa: S310  # http or https
        try:
            with urllib.request.urlopen(request, timeout=_HELLO_S) as answer:  # noqa: S310  # the operator's address
                card = json.load(answer)["models"][0]
            if card["embedding_id"] is None:  # it depends on the runtime, which is not loaded yet
                raise ValueError("it is not ready")
            return cls(urls, key, f"{card['name']}/{card['version']}", card["embedding_dim"], card["embedding_id"])
        except urllib.error.HTTPError as error:
            reason = "a valid API key is required" if error.code == 401 else f"it answers {error.code}"
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error))
        except (KeyError, IndexError, TypeError):
            reason = "it is no service of this kind"
        raise OperatorError(f"{urls[0]} cannot be used: {reason}")

    def embedding_id(self, *, unit_length: bool) -> str:
        return self.unit_id if unit_length else self.unit_id.replace(";n1;", ";n0;")

    @asynccontextmanager
    async def infer(self, kind: Kind, photos: int) -> AsyncIterator[Infer]:
        """Asks for vectors of this ``embedding_id`` only, whichever service answers."""
        import mobilenet_client
        from mobilenet_client import AsyncClient, BadImage, Timeout

        wanted = self.embedding_id(unit_length=kind.unit_length) if isinstance(kind, Vectors) else None

        async def infer(name: str, data: bytes) -> Result:
            try:
                if isinstance(kind, Vectors):
                    embedding = await client.embed(data, kind.unit_length)
                    return Result(embedding.vector, embedding.warnings)
                answer = await client.classify(data, kind.top_k)
                return Result(answer.predictions, answer.warnings)
            except mobilenet_client.ServiceError as error:
                if not isinstance(error, BadImage | Timeout) and error.status != 500:
                    raise OperatorError(f"the work has stopped: {error}") from None
                return Result(error=_ERRORS.get(error.title, ServiceError)(error.detail))

        async with AsyncClient(
            self.urls, self.key, timeout=_PATIENCE_S, concurrency=_CONCURRENCY, embedding_id=wanted, priority="low"
        ) as client:
            yield infer
