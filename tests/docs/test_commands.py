"""Commands in documents exist with their options, and every command stands in a document."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from service.cli import cli
from tests.documents import FENCE, PAGES, page_name, prose, read, rows, spans


def commands() -> dict[str, click.Command]:
    """Every command by its full name."""

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            for child in command.commands.values():
                yield from walk(f"{name} {child.name}", child)
        else:
            yield name, command

    return dict(walk("mobilenet-service", cli))


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*##", read("Makefile"), re.MULTILINE))


def test_every_command_and_make_target_is_in_a_document() -> None:
    """Those of the model store in ``models.md``, with their argument, all others in ``operations.md``."""
    documented = {span for row in rows(read("docs/operations.md")) for span in spans(row[0])}
    stored = {re.sub(r" [A-Z]+$", "", span) for row in rows(read("docs/models.md")) for span in spans(row[0])}
    named = {name for name in documented | stored if name.startswith("mobilenet-service ")}
    assert named - {"mobilenet-service models"} == set(commands())
    assert {name for name in documented if name.startswith("make ")} == {f"make {name}" for name in make_targets()}


def make_variables() -> set[str]:
    return set(re.findall(r"^([A-Z]+) \?=", read("Makefile"), re.MULTILINE))


def command_lines(text: str) -> Iterator[str]:
    """Lines of shell blocks (language sh, or none), and inline code."""
    for language, block in FENCE.findall(text):
        if language in ("", "sh"):
            yield from block.replace("\\\n", " ").splitlines()
    yield from spans(prose(text))


def command_complaints(text: str) -> Iterator[str]:
    for line in command_lines(text):
        if not re.match(r"(\.venv/bin/)?(mobilenet-service|make) \S", line):
            continue
        program, *words = shlex.split(line, comments=True)
        found = make_complaint(words) if program == "make" else service_complaint(words)
        if found:
            yield f"{line}: {found}"


def make_complaint(words: list[str]) -> str | None:
    assignments = dict(word.split("=", 1) for word in words if "=" in word)
    targets = [word for word in words if "=" not in word]
    if unknown := set(targets) - make_targets():
        return f"no target {unknown}"
    if unknown := set(assignments) - make_variables():
        return f"no variable {unknown}"
    return service_complaint(["serve", *shlex.split(assignments.get("ARGS", ""))]) if targets == ["serve"] else None


def service_complaint(words: list[str]) -> str | None:
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        child = command.commands.get(words.pop(0))
        if child is None:
            return "no such command"
        command = child
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    return f"no option {given - known}" if given - known else None


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_in_documents_exist(page: Path) -> None:
    assert list(command_complaints(page.read_text())) == []


def test_commands_are_found_where_they_stand() -> None:
    readme = list(command_lines(read("README.md")))
    assert "make serve" in readme
    assert any(line.startswith(".venv/bin/mobilenet-service classify") for line in readme)
