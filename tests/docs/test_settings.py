"""Every setting is described as it is, and defaults in running text are true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cli import cli
from service.config import Settings
from tests.documents import PAGES, page_name, prose, read, rows, spans


def setting_complaints(text: str) -> Iterator[str]:
    table = {names[0]: row for row in rows(text) if (names := spans(row[0])) and names[0].startswith("MOBILENET_")}
    schema = Settings.model_json_schema()["properties"]
    fields = {f"MOBILENET_{name.upper()}": name for name in Settings.model_fields}
    yield from (f"{name} is no setting" for name in re.findall(r"MOBILENET_[A-Z_]+\b", text) if name not in fields)
    for variable, name in fields.items():
        if (row := table.get(variable)) is None or len(row) != 5:
            yield f"{variable} has no row of five cells"
            continue
        _, option, values, default, meaning = row
        if spans(option) != flags(name):
            yield f"{variable}: its options are {flags(name)}"
        yield from (f"{variable}: '{part}' is missing of its values" for part in expected(schema[name], values))
        plain = Settings.model_fields[name].default
        if name != "model_store" and plain != () and spans(default) != [str(plain)]:
            yield f"{variable}: its default is {plain}"
        if not meaning:
            yield f"{variable}: its meaning is missing"


def flags(name: str) -> list[str]:
    serve = cli.commands["serve"]
    return [flag for option in serve.params if option.name == name for flag in (*option.opts, *option.secondary_opts)]


def expected(schema: dict[str, Any], values: str) -> Iterator[str]:
    """What ``values`` should say of a setting's range and does not."""
    for part in schema.get("anyOf", [schema]):
        for word in (*part.get("enum", ()), *([part["const"]] if "const" in part else ())):
            if f"`{word}`" not in values:
                yield word
        low, high = part.get("minimum"), part.get("maximum")
        if low is not None:
            wanted = f"{low:g} and more" if high is None else f"{int(low)} to {int(high)}"
            if wanted not in values:
                yield wanted


def test_every_setting_is_described_as_it_is() -> None:
    assert list(setting_complaints(read("docs/configuration.md"))) == []


def default_complaints(text: str) -> Iterator[str]:
    """Defaults in running text: a setting's name, then its value in brackets, in seconds also if it is set in ms."""
    for name, value, unit in re.findall(r"`(\w+)` \((\d+)( s)?\)", prose(text)):
        if name in Settings.model_fields:
            default = Settings.model_fields[name].default
            if default != int(value) * (1000 if unit and name.endswith("_ms") else 1):
                yield f"{name}: its default is {default}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_defaults_in_running_text_are_true(page: Path) -> None:
    assert list(default_complaints(page.read_text())) == []
