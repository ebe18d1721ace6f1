"""A service in this process: the image ``b"17"`` is of class 17 and has the vector (17, 17)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from mobilenet_client import AsyncClient, Client

Answer = httpx.Response | Exception


def problem(status: int, title: str = "Title", detail: str = "detail", **members: Any) -> httpx.Response:
    headers = {"Content-Type": "application/problem+json", "X-Request-Id": "r1"}
    document = {"type": "about:blank", "status": status, "title": title, "detail": detail, **members}
    return httpx.Response(status, headers=headers, content=json.dumps(document))


def by_proxy(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={"Content-Type": "text/html", **headers}, content=b"<html>")


def answer(request: httpx.Request, embedding_id: str | None = None, **headers: str) -> httpx.Response:
    """What a service without trouble says."""
    number = int(request.content)
    if request.url.path == "/embed":
        named = {} if embedding_id is None else {"Embedding-Id": embedding_id}
        return httpx.Response(200, headers={**named, **headers}, content=np.full(2, number, "<f4").tobytes())
    prediction = {"index": number, "label": f"class {number}", "probability": 0.5}
    result: dict[str, Any] = {"predictions": [prediction], "warnings": ["of the image"]}
    return httpx.Response(200, json={"model": "m", "version": "1", "warnings": ["of the request"], "results": [result]})


class FakeService(httpx.MockTransport):
    """``says(request, number)`` is its answer to the request of that number, or None for an answer without trouble."""

    def __init__(self, says: Callable[[httpx.Request, int], Answer | None] = lambda request, number: None) -> None:
        super().__init__(self._answer)
        self.says = says
        self.requests: list[httpx.Request] = []
        self.at_once = self.most_at_once = self.cancelled = 0
        self.held: set[bytes] = set()  # images that are answered only when they are taken out of here
        self.delay = 0.0

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        said = self.says(request, len(self.requests) - 1)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay)
            while request.content in self.held:  # noqa: ASYNC110  # another thread lets them go
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1
        if isinstance(said, Exception):
            raise said
        return answer(request) if said is None else said

    def client(self, url: str | list[str] = "http://service", **options: Any) -> Client:
        return Client(url, transport=self, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        return AsyncClient("http://service", transport=self, **options)


def in_turn(*answers: Answer) -> Callable[[httpx.Request, int], Answer | None]:
    """Says these, then answers without trouble."""
    return lambda request, number: answers[number] if number < len(answers) else None


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]
