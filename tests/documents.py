"""Markdown as GitHub reads it, and the service's errors, which documents and dashboards name."""

from __future__ import annotations

import re
from pathlib import Path

from service.errors import ServiceError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ADRS = sorted((DOCS / "adr").glob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "client/README.md")),
    *sorted(DOCS.rglob("*.md")),
]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(name: str) -> str:
    return (ROOT / name).read_text()


def prose(text: str) -> str:
    """Without fenced blocks."""
    return FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """Inline code."""
    return SPAN.findall(text)


def rows(text: str) -> list[list[str]]:
    """Cells of every table row; a pipe inside backticks does not occur."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in prose(text).splitlines()
        if line.startswith("|") and not set(line) <= set("|- ")
    ]


def anchors(text: str) -> set[str]:
    """As GitHub makes them: lower case, punctuation dropped, spaces to hyphens."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(text))}


def errors(root: type[ServiceError] = ServiceError) -> list[type[ServiceError]]:
    return [root, *(error for child in root.__subclasses__() for error in errors(child))]
