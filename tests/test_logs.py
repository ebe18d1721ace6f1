"""One line a record, whatever a request put into it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from service import logs


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.getLogger("uvicorn").level)
    yield root
    root.handlers[:], level, uvicorn_level = before
    root.setLevel(level)
    logging.getLogger("uvicorn").setLevel(uvicorn_level)


def test_records_stay_one_line(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "json"):
        logs.configure(form, "info")
        root_logger.info("a\nb", extra={"fields": {"path": "/x\r\n2026 error forged"}})
    text, entry = capsys.readouterr().err.splitlines()
    assert text.endswith("info    a\\nb path=/x\\r\\n2026 error forged")
    assert json.loads(entry)["message"] == "a\nb"
    assert json.loads(entry)["path"] == "/x\r\n2026 error forged"


@pytest.mark.parametrize("process", ["worker-0", ""])
def test_every_record_names_the_process_if_it_has_a_name(
    process: str, root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("text", "info", process=process)
    root_logger.info("a")
    root_logger.info("b", extra={"fields": {"path": "/x"}})
    logs.configure("json", "info", process=process)
    root_logger.info("c", extra={"fields": {"path": "/x"}})
    first, second, third = capsys.readouterr().err.splitlines()
    said = f" process={process}" if process else ""
    assert first.endswith(f"info    a{said}")
    assert second.endswith(f"info    b{said} path=/x")
    entry = json.loads(third)
    assert entry.get("process", "") == process
    assert entry["path"] == "/x"
