"""Logging to standard error, one line per record, as text or as JSON.

Configured once by the composition root. Extra fields travel in ``extra={"fields": {...}}``; the JSON form merges
them into the record, the text form appends them as key=value.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

#: The id of the request that is being answered; empty outside of a request.
request_id: ContextVar[str] = ContextVar("request_id", default="")


def configure(
    log_format: Literal["text", "json"],
    log_level: Literal["debug", "info", "warning", "error"],
    *,
    process: str = "",
) -> None:
    """Replace the root logger's handlers; uvicorn's own loggers propagate to it.

    ``process``, if given, is added to every record: several processes write to one standard error.
    """
    handler = logging.StreamHandler(sys.stderr)
    common: dict[str, object] = {"process": process} if process else {}
    handler.setFormatter(_JsonFormatter(common) if log_format == "json" else _TextFormatter(common))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level.upper())
    # uvicorn's messages at start repeat ours; its warnings and errors are kept.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, root.level))


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Formatter(logging.Formatter):
    def __init__(self, common: dict[str, object]) -> None:
        """``common``: fields of every record."""
        super().__init__()
        self._common = common

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        fields = getattr(record, "fields", None)
        return {**self._common, **fields} if isinstance(fields, dict) else self._common


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in self.fields(record).items())
        # Logged text may come from a request and hold line breaks; a record must stay one line.
        text = f"{record.getMessage()}{fields}".replace("\r", "\\r").replace("\n", "\\n")
        line = f"{_timestamp(record)} {record.levelname.lower():7} {text}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
