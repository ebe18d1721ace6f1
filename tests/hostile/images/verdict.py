"""What a running server makes of a case, and whether that is what it must make of it.

``Judge`` is given a client of the server; tests give it cases and good pictures, from as many threads as they like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import numpy as np
from numpy.typing import NDArray

from tests.hostile.images.case import OK, Case
from tests.hostile.images.pictures import references

#: What never belongs into an answer: addresses, tracebacks, names of our libraries and of exceptions, paths.
_LEAKS = re.compile(
    r"0x|Traceback|PIL|[Pp]illow|lib(?:tiff|jpeg|webp|avif|heif|de265)|dav1d"
    r"|\w(?:Error|Exception)\b|<\w+ |\.py\b|(?:/[\w.-]+){2}"
)

#: A good picture's embedding next to hostile neighbours; batches and thread counts change the last digits.
UNAFFECTED = 0.99999


class Judge:
    """Knows the reference pictures' embeddings, which it asks the server for first."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._references = {name: self.embedding(data) for name, data in references().items()}

    def embedding(self, data: bytes) -> NDArray[np.float32]:
        return _embedding(self._client.post("/embed", content=data))

    def complaints(self, case: Case) -> list[str]:
        """What is wrong with the answer to ``case``: empty if nothing is."""
        return [f"{case.name}: {complaint}" for complaint in self._judge(case)]

    def disturbed(self) -> list[str]:
        """What is wrong with the answer to a good picture."""
        return self.complaints(Case("a good picture", references()["plain"], OK, UNAFFECTED))

    def _judge(self, case: Case) -> Iterator[str]:
        headers = {"Content-Type": case.content_type}
        answer = self._client.post("/embed", content=case.data, headers=headers)
        if answer.status_code not in case.statuses:
            yield f"{answer.status_code} {answer.text[:200]}, not {sorted(case.statuses)}"
        elif answer.status_code != 200:
            yield from _problem_complaints(answer)
        else:
            embedding = _embedding(answer)
            if not abs(float(embedding @ embedding) - 1) < 1e-4:
                yield "its embedding is not of unit length"
            cosine = float(embedding @ self._references[case.like])
            if case.cosine is not None and not cosine >= case.cosine:
                yield f"a cosine of {cosine:.6f}, not {case.cosine}"
            warnings = tuple(answer.json()["results"][0]["warnings"])
            if case.warnings is not None and warnings != case.warnings:
                yield f"warnings {warnings}, not {case.warnings}"


def _problem_complaints(answer: httpx.Response) -> Iterator[str]:
    if answer.headers["content-type"] != "application/problem+json":
        yield f"an error of type {answer.headers['content-type']}"
    elif answer.json()["status"] != answer.status_code:
        yield "a problem of another status than the response"
    if leak := _LEAKS.search(answer.text.replace("about:blank", "")):
        yield f"'{leak[0]}' in {answer.text}"


def _embedding(answer: httpx.Response) -> NDArray[np.float32]:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["results"][0]["embedding"], np.float32)
