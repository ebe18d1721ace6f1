"""``python client.py URL FOLDER requests|httpx|aiohttp``. A line for each answer: [step, body, status]."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO

Form = list[tuple[str, IO[bytes]]]
Body = bytes | Iterator[bytes] | Form  # an iterator's length is not known
Send = Callable[[Body, dict[str, str]], tuple[str, int]]  # takes headers, too; returns the answer's body and status

URL, FOLDER, LIBRARY = f"{sys.argv[1]}/classify", Path(sys.argv[2]), sys.argv[3]


def by_requests() -> Send:
    import requests

    session = requests.Session()

    def send(body: Body, headers: dict[str, str]) -> tuple[str, int]:
        data, files = (None, body) if isinstance(body, list) else (body, None)
        answer = session.post(URL, data=data, files=files, headers=headers, timeout=60)
        return answer.text, answer.status_code

    return send


def by_httpx() -> Send:
    import httpx

    client = httpx.Client(timeout=60)

    def send(body: Body, headers: dict[str, str]) -> tuple[str, int]:
        content, files = (None, body) if isinstance(body, list) else (body, None)
        answer = client.post(URL, content=content, files=files, headers=headers)
        return answer.text, answer.status_code

    return send


def by_aiohttp() -> Send:
    import aiohttp

    async def connect() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    async def stream(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async def post(body: Body, headers: dict[str, str]) -> tuple[str, int]:
        data = body if isinstance(body, bytes | list) else stream(body)
        async with session.post(URL, data=data, headers=headers) as answer:
            return await answer.text(), answer.status

    runner = asyncio.Runner()
    session = runner.run(connect())
    return lambda body, headers: runner.run(post(body, headers))


def main() -> None:
    send = {"requests": by_requests, "httpx": by_httpx, "aiohttp": by_aiohttp}[LIBRARY]()

    def step(name: str, body: Body, **headers: str) -> None:
        text, status = send(body, {"X-Request-Id": name, **headers})
        sys.stdout.write(f'["{name}",{text},{status}]\n')

    first, second = FOLDER / "first.jpg", FOLDER / "second.jpg"
    photo = first.read_bytes()
    step("raw", photo)
    step("form", [("file", first.open("rb")), ("file", second.open("rb"))])
    step("chunked", iter([photo]))
    step("gzip", (FOLDER / "first.jpg.gz").read_bytes(), **{"Content-Encoding": "gzip"})
    step("expect", photo, Expect="100-continue")
    step("refused", (FOLDER / "large").read_bytes(), Expect="100-continue")
    step("refused", photo)
    step("reused", (FOLDER / "words").read_bytes())
    step("reused", photo)
    step("reused", photo)


main()
