"""Markdown as GitHub reads it, and the service's errors, which documents and dashboards name."""

from __future__ import annotations

import re

from service.errors import ServiceError

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def prose(text: str) -> str:
    """Without fenced blocks."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """As GitHub makes them: lower case, punctuation dropped, spaces to hyphens."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(text))}


def errors(root: type[ServiceError] = ServiceError) -> list[type[ServiceError]]:
    return [root, *(error for child in root.__subclasses__() for error in errors(child))]
