"""Links lead somewhere, the index is complete, decisions have one form, threats name the tests that show them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import ADRS, DOCS, HEADING, LINK, PAGES, ROOT, SPAN, anchors, page_name, prose, read, rows, spans


def link_complaints(text: str, page: Path = ROOT / "README.md") -> Iterator[str]:
    for target in LINK.findall(SPAN.sub("", prose(text))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        if not path.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(path.read_text() if name else text):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(link_complaints(page.read_text(), page)) == []


def test_anchors_are_those_of_github() -> None:
    assert anchors("# One, `two` & three\n```sh\n# none\n```\n") == {"one-two--three"}


def test_decisions_are_numbered_without_gap_or_repetition() -> None:
    assert [int(adr.name.split("-")[0]) for adr in ADRS] == list(range(1, len(ADRS) + 1))
    for adr in ADRS:
        text = adr.read_text()
        assert text.startswith(f"# {int(adr.name.split('-')[0])}. ")
        headings = [heading for heading in HEADING.findall(prose(text)) if heading != text.splitlines()[0][2:]]
        assert headings == ["Context", "Decision", "Numbers", "Consequences"]


@pytest.mark.parametrize("adr", ADRS, ids=page_name)
def test_a_decision_opens_with_one_sentence(adr: Path) -> None:
    assert list(opening_complaints(adr.read_text())) == []


def opening_complaints(text: str) -> Iterator[str]:
    """One sentence, and nothing else, stands between title and first heading."""
    opening = text.partition("\n## ")[0].partition("\n")[2].strip()
    if re.fullmatch(r"[A-Z`](?:[^.\n]|\n(?!\n)|\.(?=\S))+\.", opening) is None:
        yield f"no sentence: {opening}"


def test_the_index_lists_every_document() -> None:
    listed = {(DOCS / target).resolve() for target in LINK.findall(read("docs/index.md"))}
    assert listed >= set(PAGES) - {DOCS / "index.md"}  # and documents beside the code they are about


def security_complaints(text: str) -> Iterator[str]:
    """Whether the tests that are named exist is asked of all documents."""
    for row in rows(text):
        if row[0] != "sends" and not any(span.startswith("test_") for span in spans(row[-1])):
            yield f"'{row[0]}' is shown by no test"


def test_every_threat_names_a_test() -> None:
    assert list(security_complaints(read("SECURITY.md"))) == []
