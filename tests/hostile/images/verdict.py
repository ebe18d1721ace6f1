"""What a running server makes of a case, and whether that is what it must make of it.

``Judge`` is given a client of the server; tests give it cases and good pictures, from as many threads as they like.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import httpx
import numpy as np
from numpy.typing import NDArray

from tests.hostile.images.case import Case, references

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
        return _embedding(self._send(data))

    def complaints(self, case: Case) -> list[str]:
        """What is wrong with the answer to ``case``: empty if nothing is."""
        answer = self._send(case.data, case.content_type)
        return [f"{case.name}: {complaint}" for complaint in self._judge(case, answer)]

    def disturbed(self) -> list[str]:
        """What is wrong with the answer to a good picture."""
        answer = self._send(references()["plain"])
        if answer.status_code != 200:
            return [f"a good picture: {answer.status_code} {answer.text}"]
        cosine = float(_embedding(answer) @ self._references["plain"])
        return [] if cosine >= UNAFFECTED else [f"a good picture: its embedding has turned to a cosine of {cosine:.6f}"]

    def _send(self, data: bytes, content_type: str = "application/octet-stream") -> httpx.Response:
        return self._client.post("/embed", content=data, headers={"Content-Type": content_type})

    def _judge(self, case: Case, answer: httpx.Response) -> list[str]:
        if answer.status_code not in case.statuses:
            return [f"{answer.status_code} {answer.text[:200]}, not {sorted(case.statuses)}"]
        if answer.status_code != 200:
            return _problem_complaints(answer)
        complaints = []
        embedding = _embedding(answer)
        if not abs(float(embedding @ embedding) - 1) < 1e-4:
            complaints.append("its embedding is not of unit length")
        if case.cosine is not None:
            cosine = float(embedding @ self._references[case.like])
            if not cosine >= case.cosine:
                complaints.append(f"a cosine of {cosine:.4f}, not {case.cosine}")
        warnings = tuple(answer.json()["results"][0]["warnings"])
        if case.warnings is not None and warnings != case.warnings:
            complaints.append(f"warnings {warnings}, not {case.warnings}")
        return complaints


def _problem_complaints(answer: httpx.Response) -> list[str]:
    complaints = []
    if answer.headers["content-type"] != "application/problem+json":
        complaints.append(f"an error of type {answer.headers['content-type']}")
    elif answer.json()["status"] != answer.status_code:
        complaints.append("a problem of another status than the response")
    if leak := _LEAKS.search(answer.text.replace("about:blank", "")):
        complaints.append(f"'{leak[0]}' in {answer.text}")
    return complaints


def _embedding(answer: httpx.Response) -> NDArray[np.float32]:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["results"][0]["embedding"], np.float32)


def in_batches(judge: Judge, cases: Sequence[Case], size: int, concurrency: int) -> tuple[list[str], list[str]]:
    """Complaints about ``cases``, ``concurrency`` at once, and about a good picture after every ``size`` of them."""
    complaints, disturbed = [], []
    with ThreadPoolExecutor(concurrency) as pool:
        for start in range(0, len(cases), size):
            for found in pool.map(judge.complaints, cases[start : start + size]):
                complaints += found
            disturbed += judge.disturbed()
    return complaints, disturbed


def side_by_side(judge: Judge, cases: Sequence[Case], pool: Executor) -> tuple[list[str], list[str]]:
    """Complaints about ``cases`` and about as many good pictures, all of them at once."""
    hostile = [pool.submit(judge.complaints, case) for case in cases]
    good = [pool.submit(judge.disturbed) for _ in cases]
    return [c for future in hostile for c in future.result()], [c for future in good for c in future.result()]
