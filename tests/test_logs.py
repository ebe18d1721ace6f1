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


def test_text_records_stay_one_line(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "info")
    root_logger.info("a\nb", extra={"fields": {"path": "/x\r\n2026 error forged"}})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("info    a\\nb path=/x\\r\\n2026 error forged")


def test_json_records_stay_one_line(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    root_logger.info("a\nb", extra={"fields": {"path": "/x\r\ny"}})
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "a\nb"
    assert json.loads(line)["path"] == "/x\r\ny"
