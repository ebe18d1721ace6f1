"""A form that costs its parser much leaves the event loop to others in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.datastructures import Headers

from service.http.request import read_body

pytestmark = pytest.mark.anyio


async def test_a_form_made_of_beginnings_of_boundaries_is_read_in_pieces() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    headers = Headers({"content-type": "multipart/form-data; boundary=b"})
    good = b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\n" + b"\r\n--x" * 200_000 + b"\r\n--b--\r\n"

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": good, "more_body": False}

    neighbour = asyncio.ensure_future(others())
    (image,), _ = await read_body(headers, receive, max_bytes=2**24, max_images=1)
    neighbour.cancel()
    assert image == b"\r\n--x" * 200_000
    assert turns >= len(good) // 2**15
