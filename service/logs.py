"""Logging to standard error, one line a record, as text or as JSON.

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

#: Of the request that is being answered; empty outside of one.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(
    log_format: Literal["text", "json"],
    log_level: Literal["debug", "info", "warning", "error"],
    *,
    process: str = "",
) -> None:
    """Replace the root logger's handlers; uvicorn's own loggers propagate to it.

    ``process`` is in every record if it is given: several processes write to one standard error.
    """
    handler = logging.StreamHandler(sys.stderr)
    own: dict[str, object] = {"process": process} if process else {}
    handler.setFormatter(_JsonFormatter(own) if log_format == "json" else _TextFormatter(own))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[log_level])
    # Its start-up chatter repeats ours; its warnings and errors are wanted.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, _LEVELS[log_level]))


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Formatter(logging.Formatter):
    def __init__(self, own: dict[str, object]) -> None:
        """``own``: fields of every record."""
        super().__init__()
        self._own = own

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        fields = getattr(record, "fields", None)
        return {**self._own, **fields} if isinstance(fields, dict) else self._own


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in self.fields(record).items())
        # A request can put line breaks into what is logged; a record stays one line.
        said = f"{record.getMessage()}{fields}".replace("\r", "\\r").replace("\n", "\\n")
        line = f"{_timestamp(record)} {record.levelname.lower():7} {said}"
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
