"""The operator's socket: questions, answers, faults of handlers, and askers that leave."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from service.errors import OperatorError
from service.serving.admin import AdminServer, Handler, Message, ask

WAIT_S = 30.0


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mn-") as directory:  # the path of a socket has 107 bytes
        yield Path(directory, "0123-4711.sock")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@asynccontextmanager
async def serving(path: Path, handler: Handler) -> AsyncIterator[None]:
    server = AdminServer(path, handler)
    await server.start()
    try:
        async with asyncio.timeout(WAIT_S):
            yield
    finally:
        await server.aclose()
    assert modes(path.parent) == {}


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


async def echo(question: Message) -> Message:
    return {"asked": question}


async def asked(path: Path, question: Message, timeout_s: float = WAIT_S) -> Message:
    return await asyncio.to_thread(ask, path, question, timeout_s)


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


def test_a_question_is_answered_and_only_its_user_may_ask(path: Path, run: Callable[..., Any]) -> None:
    async def check() -> None:
        async with serving(path, echo):
            assert modes(path.parent) == {path.name: 0o600}
            assert await asked(path, {"do": "status", "text": "ü\n"}) == {"asked": {"do": "status", "text": "ü\n"}}

    run(check())


def test_several_questions_on_one_connection_are_answered_in_order(path: Path, run: Callable[..., Any]) -> None:
    async def check() -> None:
        async with serving(path, echo), connected(path) as (reader, writer):
            for rounds in (1, 3):
                for number in range(rounds):
                    writer.write(json.dumps({"n": number}).encode() + b"\n")
                for number in range(rounds):
                    assert json.loads(await reader.readline()) == {"asked": {"n": number}}

    run(check())


def test_several_connections_are_served_at_once(path: Path, run: Callable[..., Any]) -> None:
    async def check() -> None:
        changed = asyncio.Event()

        async def handle(question: Message) -> Message:
            if question["do"] == "change":
                await changed.wait()
            return question

        async with serving(path, handle):
            change = asyncio.create_task(asked(path, {"do": "change"}))
            assert await asked(path, {"do": "status"}) == {"do": "status"}
            assert not change.done()
            changed.set()
            assert await change == {"do": "change"}

    run(check())


@pytest.mark.parametrize("line", [b"{", b"\xff", b"[]", b"null", b""], ids=["cut", "bytes", "list", "null", "empty"])
def test_what_is_no_question_is_answered_so_and_the_next_one_is_served(
    line: bytes, path: Path, run: Callable[..., Any]
) -> None:
    async def check() -> None:
        async with serving(path, echo), connected(path) as (reader, writer):
            writer.write(line + b"\n")
            assert json.loads(await reader.readline()) == {"error": "a question is one line with a JSON object"}
            writer.write(b"{}\n")
            assert json.loads(await reader.readline()) == {"asked": {}}

    run(check())


def test_a_failing_handler_is_an_answer_and_never_the_end(
    path: Path, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(question: Message) -> Message:
        if question["do"] == "refuse":
            raise OperatorError("aliases.json is invalid")
        return {"made": question["made"]}

    async def check() -> None:
        async with serving(path, handle):
            with pytest.raises(OperatorError, match=r"^process 4711: aliases.json is invalid$"):
                await asked(path, {"do": "refuse"})
            assert caplog.records == []
            with pytest.raises(OperatorError, match="process 4711: the service failed over this question; its log"):
                await asked(path, {"do": "fail"})
            assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]
            assert await asked(path, {"do": "", "made": 1}) == {"made": 1}

    run(check())


def test_a_line_over_the_limit_ends_its_connection_alone(path: Path, run: Callable[..., Any]) -> None:
    async def check() -> None:
        async with serving(path, echo):
            with pytest.raises(OperatorError, match="process 4711 ended before it answered"):
                await asked(path, {"text": "x" * 2**20})
            assert await asked(path, {}) == {"asked": {}}

    run(check())


def test_who_leaves_takes_the_question_back(path: Path, run: Callable[..., Any]) -> None:
    async def check() -> None:
        began, cancelled = asyncio.Event(), asyncio.Event()

        async def handle(question: Message) -> Message:
            if question:
                began.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()
            return question

        async with serving(path, handle):
            async with connected(path) as (_, writer):
                writer.write(b'{"do": "change"}\n')
                await began.wait()
                assert not cancelled.is_set()
            await cancelled.wait()
            assert await asked(path, {}) == {}

    run(check())


def test_closing_cancels_what_is_not_answered(path: Path, run: Callable[..., Any]) -> None:
    async def check() -> None:
        began = asyncio.Event()

        async def handle(question: Message) -> Message:
            began.set()
            await asyncio.Event().wait()
            return question

        server = AdminServer(path, handle)
        await server.start()
        change = asyncio.create_task(asked(path, {"do": "change"}))
        await began.wait()
        await server.aclose()
        with pytest.raises(OperatorError, match="process 4711 ended before it answered"):
            await change

    run(check())
    assert not path.exists()


def test_the_time_for_an_answer_is_bounded_and_told(path: Path, run: Callable[..., Any]) -> None:
    async def check() -> None:
        async def handle(question: Message) -> Message:
            await asyncio.Event().wait()
            return question

        async with serving(path, handle):
            with pytest.raises(OperatorError, match=r"^process 4711 gave no answer within 0.05 s$"):
                await asked(path, {}, timeout_s=0.05)

    run(check())


def test_what_a_killed_process_of_the_same_id_left_is_replaced(path: Path, run: Callable[..., Any]) -> None:
    for left in (path, path.with_suffix(".new")):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))

    async def check() -> None:
        async with serving(path, echo):
            assert await asked(path, {}) == {"asked": {}}

    run(check())


@pytest.mark.parametrize("name", ["absent/0123-1.sock", f"{'x' * 108}-1.sock"], ids=["no directory", "long"])
def test_a_path_where_nothing_can_listen(name: str, path: Path, run: Callable[..., Any]) -> None:
    async def check() -> None:
        server = AdminServer(path.parent / name, echo)
        with pytest.raises(OperatorError, match=f"cannot listen on .*{name[-9:]}: "):
            await server.start()
        await server.aclose()

    run(check())


def test_nobody_is_there_any_more(path: Path) -> None:
    with pytest.raises(OperatorError, match="process 4711 ended before it answered"):
        ask(path, {}, WAIT_S)
