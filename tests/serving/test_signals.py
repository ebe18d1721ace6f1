"""A signal arrives amid anything, and is not lost."""

from __future__ import annotations

import io
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from service.serving.lifecycle import Lifecycle
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Interrupted(io.StringIO):
    """Standard error, as a signal finds it amid a line: its buffer refuses a second one."""

    def __init__(self, by: Callable[[], object]) -> None:
        super().__init__()
        self._by = by
        self._writing = False

    def write(self, text: str) -> int:
        if self._writing:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")
        self._writing = True
        try:
            self._by()
            return super().write(text)
        finally:
            self._writing = False


async def test_a_signal_amid_a_line_of_the_log_begins_the_drain(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lifecycle = Lifecycle(drain_s=1.0)
    told: list[int] = []

    def by() -> None:
        if not told:
            told.append(signal.SIGTERM)
            lifecycle.handle_signal(signal.SIGTERM, None)

    stream = Interrupted(by)
    monkeypatch.setattr(sys, "stderr", stream)
    handler = logging.StreamHandler(stream)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    # By setLevel(), which caplog calls: loggers remember whether a level is enabled, and it makes them forget.
    with caplog.at_level(logging.INFO):
        logging.getLogger("service.access").info("request")
        assert told
        await eventually(lambda: lifecycle.draining)
    assert stream.getvalue() == "request\ndraining\n"


@pytest.mark.parametrize("within_a_line", [False, True])
async def test_a_second_one_ends_the_process_whatever_the_log_says(
    monkeypatch: pytest.MonkeyPatch, within_a_line: bool
) -> None:
    lifecycle = Lifecycle(drain_s=1.0)
    ended: list[int] = []

    def refuse(*given: object) -> None:
        raise RuntimeError("reentrant call")

    monkeypatch.setattr("os._exit", ended.append)
    if within_a_line:
        monkeypatch.setattr(logging.getLogger("service.serving.lifecycle"), "warning", refuse)
    lifecycle.handle_signal(signal.SIGINT, None)
    assert ended == []
    with pytest.raises(RuntimeError) if within_a_line else nullcontext():
        lifecycle.handle_signal(signal.SIGINT, None)
    assert ended == [130]
