"""A client that leaves in the very turn of the event loop in which its images are done: never a cancelled answer."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from service.http.request import ClientGone, cancelled_by_disconnect

pytestmark = pytest.mark.anyio


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def request(replies: list[asyncio.Future[None]], left: asyncio.Event) -> str:
    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def image(reply: asyncio.Future[None]) -> None:
        await reply

    outcome = "answered"
    try:
        async with cancelled_by_disconnect(receive):
            work = [image(reply) for reply in replies]
            await (work[0] if len(work) == 1 else asyncio.gather(*work))
    except ClientGone:
        outcome = "gone"
    await turns(3)  # the answer is sent
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    return outcome


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("apart", [0, 1, 2])
async def test_every_order_of_departure_and_replies(images: int, apart: int) -> None:
    outcomes = []
    for departure in range(2, 30):
        replies: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future() for _ in range(images)]
        left = asyncio.Event()

        async def reply(replies: list[asyncio.Future[None]] = replies) -> None:
            await turns(10)
            for future in replies:
                if not future.done():
                    future.set_result(None)
                await turns(apart)

        async def leave(left: asyncio.Event = left, departure: int = departure) -> None:
            await turns(departure)
            left.set()

        answered, _, _ = await asyncio.gather(request(replies, left), reply(), leave())
        outcomes.append(answered)
    assert set(outcomes) == {"answered", "gone"}
    assert outcomes == sorted(outcomes, reverse=True), "once it is late enough to be answered, it stays so"
