"""One abuse: what is sent on a fresh connection, which answers may come back, and what every answer owes.

``Case.violations`` is what the tests and the long run call; it returns sentences, none if all is well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from tests.hostile.http.wire import Address, Answer, get, wire

#: Nothing of the inside may stand in an answer.
LEAKS = ("Traceback", 'File "', "/service/", "/site-packages/", ".py", "object at 0x", "uvicorn", "starlette", "Errno")

#: What every answer of the service brings, whoever wrote it.
OWED = {"x-content-type-options": "nosniff", "content-security-policy": None, "cache-control": None}


def leaks(answer: Answer) -> Iterator[str]:
    """What an answer must not hold, and what it must."""
    text = answer.body.decode("utf-8", "replace") + "".join(answer.headers.values())
    yield from (f"{leak!r} in an answer {answer.status}" for leak in LEAKS if leak in text)
    for name, value in OWED.items():
        if name not in answer.headers or value not in (None, answer.headers[name]):
            yield f"an answer {answer.status} without {name}"
    if "server" in answer.headers:
        yield "an answer that names the server's software"
    if answer.status >= 500 and answer.status not in (503, 504):
        yield f"an answer {answer.status}: {text}"
    if answer.status == 405 and not answer.headers.get("allow"):
        yield "405 without Allow"
    if answer.status >= 400 and answer.body:
        if answer.headers.get("content-type") != "application/problem+json":
            yield f"an answer {answer.status} of type {answer.headers.get('content-type')}"
        elif json.loads(answer.body)["status"] != answer.status:
            yield f"an answer {answer.status} whose problem says otherwise"


@dataclass(frozen=True)
class Case:
    """``answers`` are the statuses that each request on the connection may get, in order. After them the server closes
    where ``closes`` says so, and otherwise still serves the connection; None: either."""

    name: str
    sent: bytes
    answers: tuple[frozenset[int], ...]
    closes: bool | None = False
    to_head: bool = False
    hangs_up: bool = False  # the client ends its side after what it sent

    def violations(self, address: Address) -> Iterator[str]:
        with wire(address) as connection:
            connection.send(self.sent)
            if self.hangs_up:
                connection.end_sending()
            for number, allowed in enumerate(self.answers):
                answer = connection.answer(to_head=self.to_head)
                if answer is None:
                    yield f"the connection ended before answer {number + 1}"
                    return
                yield from leaks(answer)
                if answer.status not in allowed:
                    yield f"answer {number + 1} is {answer.status} and not one of {sorted(allowed)}: {answer.body!r}"
                    return
            if self.closes and not connection.ends():
                yield "the connection goes on"
            elif self.closes is False:
                connection.send(get("/livez"))
                if (last := connection.status()) != 200:
                    yield f"the connection does not serve any more: {last}"


def case(name: str, sent: bytes, *statuses: int, closes: bool | None = False, to_head: bool = False) -> Case:
    """One request, one answer: any of ``statuses``."""
    return Case(name, sent, (frozenset(statuses),), closes, to_head)
