"""Logging to standard error, one line a record, as text or as JSON.

Configured once by the composition root. Extra fields travel in ``extra={"fields": {...}}``; the JSON form merges
them into the record, the text form appends them as key=value.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(log_format: Literal["text", "json"], log_level: Literal["debug", "info", "warning", "error"]) -> None:
    """Replace the root logger's handlers; uvicorn's own loggers propagate to it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[log_level])
    # Its start-up chatter repeats ours; its warnings and errors are wanted.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, _LEVELS[log_level]))


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        # A request can put line breaks into what is logged; a record stays one line.
        said = f"{record.getMessage()}{fields}".replace("\r", "\\r").replace("\n", "\\n")
        line = f"{_timestamp(record)} {record.levelname.lower():7} {said}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
