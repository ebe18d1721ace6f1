"""How answers reach those who wait, and what an engine that does not serve says instead."""

from __future__ import annotations

import asyncio
from typing import Literal, NoReturn, Protocol, TypeVar

from service.engine.runner import Answers
from service.errors import DeadlineExceeded, Draining, NotReady, OperatorError, ServiceError

T = TypeVar("T")

Fatal = Literal["lost", "failed", "hung"]
State = Literal["starting", "ready", "failing", "late", "closed", Fatal]
Phase = Literal["starting", "serving", "closed", Fatal]

#: A process's exit status by the state in which its engine ended; whoever supervises it should start another. 70 is
#: sysexits.h's EX_SOFTWARE.
ENGINE_EXITS: dict[State, int] = {"lost": 70, "failed": 71, "hung": 72}

_WHY_NOT: dict[Phase, str] = {
    "starting": "the model is still loading",
    "lost": "the device was lost",
    "failed": "the model fails on every image",
    "hung": "the model does not answer any more",
}


class Sink(Protocol):
    """Who takes answers on the thread that has them, other than a caller of ``infer``."""

    def deliver(self, answers: Answers) -> None: ...


def by_receiver(answers: Answers) -> tuple[Answers, dict[Sink, Answers]]:
    """Those that futures wait for, and those of each sink."""
    waiting: Answers = []
    sinks: dict[Sink, Answers] = {}
    for answer in answers:
        reply = answer[0].reply
        group = waiting if isinstance(reply, asyncio.Future) else sinks.setdefault(reply, [])
        group.append(answer)
    return waiting, sinks


def refusal(phase: Phase) -> ServiceError:
    if phase == "closed":
        return Draining("the service is shutting down")
    return NotReady(_WHY_NOT[phase])


def expired() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the image was inferred")


def given_up() -> NoReturn:
    """In place of decoding what nobody waits for."""
    raise expired()


def resolve(reply: asyncio.Future[T], answer: T | ServiceError | OperatorError) -> None:
    if reply.done():
        return
    if isinstance(answer, (ServiceError, OperatorError)):
        reply.set_exception(answer)
    else:
        reply.set_result(answer)


def resolve_all(answers: Answers) -> None:
    for item, answer in answers:
        resolve(item.reply, answer)
