"""Documents cannot rot: what they say of settings, metrics, routes, statuses and commands is held against the code.

Each check is a function that returns complaints, and is itself tried on a text that is wrong.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from prometheus_client.metrics import MetricWrapperBase

from service.cli import cli
from service.config import Settings
from service.engine import ENGINE_EXITS
from service.metrics import Metrics
from tests.artifacts import make_artifact
from tests.documents import FENCE, HEADING, anchors, errors, prose
from tests.layers import LAYERS
from tests.running import running_app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ADRS = sorted((DOCS / "adr").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def read(name: str) -> str:
    return (ROOT / name).read_text()


def rows(text: str) -> list[list[str]]:
    """Cells of every table row; a pipe inside backticks does not occur."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in prose(text).splitlines()
        if line.startswith("|") and not set(line) <= set("|- ")
    ]


def spans(cell: str) -> list[str]:
    return _SPAN.findall(cell)


# Settings


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
        if name not in ("model_store", "api_keys", "devices") and spans(default) != [str(plain)]:
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


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("`--port`", "`--prot`"),
        ("`8000`", "`80`"),
        ("0 to 65535", "1 to 65535"),
        ("`bf16`, `fp16`", "`bf16`"),
        ("MOBILENET_MAX_PIXELS", "MOBILENET_MOST_PIXELS"),
    ],
)
def test_a_wrong_setting_is_noticed(old: str, new: str) -> None:
    text = read("docs/configuration.md")
    assert old in text
    assert list(setting_complaints(text.replace(old, new))) != []


def default_complaints(text: str) -> Iterator[str]:
    """Defaults in running text: a setting's name, then its value in brackets, milliseconds as seconds."""
    for name, value, unit in re.findall(r"`(\w+)` \((\d+)( s)?\)", prose(text)):
        if name in Settings.model_fields:
            default = Settings.model_fields[name].default
            if default != int(value) * (1000 if unit else 1):
                yield f"{name}: its default is {default}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_defaults_in_running_text_are_true(page: Path) -> None:
    assert list(default_complaints(page.read_text())) == []


@pytest.mark.parametrize("text", ["after `drain_timeout_ms` (30 s)", "at most `max_images` (65)"])
def test_a_wrong_default_in_running_text_is_noticed(text: str) -> None:
    assert len(list(default_complaints(text))) == 1


# Metrics


def metrics() -> dict[str, tuple[str, list[str]]]:
    """Type and labels of each metric, by the name under which it is scraped."""
    return {
        metric._name + ("_total" if metric._type == "counter" else ""): (str(metric._type), list(metric._labelnames))
        for metric in vars(Metrics()).values()
        if isinstance(metric, MetricWrapperBase)
    }


def metric_complaints(text: str) -> Iterator[str]:
    table = {names[0]: row for row in rows(text) if (names := spans(row[0])) and names[0].startswith("mobilenet_")}
    yield from (f"{name} is no metric" for name in table if name not in metrics())
    for name, (kind, labels) in metrics().items():
        if name not in table:
            yield f"{name} has no row"
        elif (table[name][1], spans(table[name][2])) != (kind, labels):
            yield f"{name} is a {kind} with labels {labels}"
    for name in re.findall(r"\bmobilenet_(?!v2)\w+", text):
        if re.sub(r"_(bucket|sum|count)$", "", name) not in metrics():
            yield f"{name} is no metric"


def test_every_metric_is_described_as_it_is() -> None:
    assert len(metrics()) > 10
    assert list(metric_complaints(read("docs/operations.md"))) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("`endpoint`, `code`", "`endpoint`"),
        ("`mobilenet_ready` | gauge", "`mobilenet_ready` | counter"),
        ("`mobilenet_in_flight` |", "`in_flight` |"),
        ("mobilenet_batch_size_sum[", "mobilenet_batch_sizes_sum["),
    ],
)
def test_a_wrong_metric_is_noticed(old: str, new: str) -> None:
    text = read("docs/operations.md")
    assert old in text
    assert list(metric_complaints(text.replace(old, new))) != []


# Errors and statuses


def test_every_status_and_title_is_in_the_api_document() -> None:
    documented = {(row[0], row[1]) for row in rows(read("docs/api.md")) if re.fullmatch(r"\d{3}", row[0])}
    of_http = {("404", "Not Found"), ("405", "Method Not Allowed")}
    assert documented == {(str(error.status), error.title) for error in errors()} | of_http


def test_every_reason_is_in_the_operations_document() -> None:
    table = rows(read("docs/operations.md"))
    cells = [cell for row in table if len(row) == 5 for cell in (row[:2], row[3:])]
    documented = {(spans(name)[0], status) for name, status in cells if re.fullmatch(r"\d{3}", status)}
    assert documented == {(error.reason, str(error.status)) for error in errors()}


def test_every_exit_status_is_in_the_operations_document() -> None:
    section = read("docs/operations.md").partition("## Exit statuses")[2].partition("\n## ")[0]
    statuses = [row[0] for row in rows(section)[1:]]
    engine = [str(status) for status in ENGINE_EXITS.values()]
    assert statuses == ["0", "1", "2", *engine, "128 + signal number"]


# Routes


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with running_app(make_artifact(tmp_path_factory.mktemp("store"))) as app:
        document: dict[str, Any] = app.client.get("/openapi.json").json()
    return document


def test_every_route_parameter_and_status_is_in_the_api_document(openapi: dict[str, Any]) -> None:
    table = rows(read("docs/api.md"))
    routes = {name for row in table for name in spans(row[0]) if re.match(r"(GET|POST) /", name)}
    parameters = {(spans(row[0])[0], spans(row[1])[0]) for row in table if len(row) == 4 and spans(row[1])}
    statuses = {row[0] for row in table}
    declared = {f"{method.upper()} {path}" for path, operations in openapi["paths"].items() for method in operations}
    of_pages = {"GET /", "GET /page/…", "GET /docs", "GET /openapi.json", "GET /docs/assets/…"}
    assert routes == declared | of_pages
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    assert (path, parameter["name"]) in parameters
            assert set(operation["responses"]) - {"200"} <= statuses


# Commands


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_documents_exist(page: Path) -> None:
    assert list(command_complaints(page.read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nmake sreve\n```\n",
        "```sh\nmake serve PROT=1\n```\n",
        '```sh\nmake serve ARGS="--decode-fast"\n```\n',
        "```sh\n.venv/bin/mobilenet-service clasify x.jpg\n```\n",
        "```\nmobilenet-service models add x.pth \\\n    --label y.txt\n```\n",
        "Run `mobilenet-service models fetch`.\n",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(text: str) -> None:
    assert list(command_complaints(text)) != []


def test_commands_are_found_where_they_stand() -> None:
    readme = list(command_lines(read("README.md")))
    assert "make serve" in readme
    assert any(line.startswith(".venv/bin/mobilenet-service classify") for line in readme)


# Links


def link_complaints(page: Path, text: str) -> Iterator[str]:
    for target in _LINK.findall(_SPAN.sub("", prose(text))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        if not path.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(path.read_text() if name else text):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(link_complaints(page, page.read_text())) == []


@pytest.mark.parametrize(
    "text", ["[x](docs/gone.md)", "[x](#gone)", "[x](docs/index.md#gone)", "![x](docs/figures/gone.svg)"]
)
def test_a_link_to_nowhere_is_noticed(text: str) -> None:
    assert len(list(link_complaints(ROOT / "README.md", f"# Here\n\n{text}\n"))) == 1


def test_anchors_are_those_of_github() -> None:
    assert anchors("# One, `two` & three\n```sh\n# none\n```\n") == {"one-two--three"}


# The collection


def test_decisions_are_numbered_without_gap_or_repetition() -> None:
    assert [int(adr.name.split("-")[0]) for adr in ADRS] == list(range(1, len(ADRS) + 1))
    for adr in ADRS:
        text = adr.read_text()
        assert text.startswith(f"# {int(adr.name.split('-')[0])}. ")
        headings = [heading for heading in HEADING.findall(prose(text)) if heading != text.splitlines()[0][2:]]
        assert headings == ["Context", "Decision", "Numbers", "Consequences"]


def test_the_index_lists_every_document() -> None:
    listed = {(DOCS / target).resolve() for target in _LINK.findall(read("docs/index.md"))}
    assert listed >= set(PAGES) - {DOCS / "index.md"}  # and documents beside the code they are about


def test_the_architecture_names_tests_and_modules_that_exist() -> None:
    text = read("docs/architecture.md")
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name
    for name in re.findall(r"`(\w+(?:/\w+)*\.py)`", text):
        assert (ROOT / "service" / name).exists() or (ROOT / name).exists(), name
    layers = text.partition("## Layers")[2].partition("\n## ")[0]
    documented = {span.strip("/"): int(row[0]) for row in rows(layers)[1:] for span in spans(row[1])}
    assert documented == {name: layer for name, layer in LAYERS.items() if name != "__main__"}


# Security


def security_complaints(text: str) -> Iterator[str]:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    yield from (f"{name}: no such test" for name in sorted(named) if f"def {name}(" not in tests)
    for row in rows(text):
        if row[0] != "sends" and not any(span in named for span in spans(row[-1])):
            yield f"'{row[0]}' is shown by no test"


def test_every_threat_names_tests_that_exist() -> None:
    text = read("SECURITY.md")
    assert list(security_complaints(text)) == []
    assert list(link_complaints(ROOT / "SECURITY.md", text)) == []
    assert list(default_complaints(text)) == []


@pytest.mark.parametrize("row", ["| a bomb | a limit | `test_a_bomb_of_no_kind` |", "| a bomb | a limit | |"])
def test_a_threat_without_a_test_is_noticed(row: str) -> None:
    assert list(security_complaints(f"| sends | what bounds it | shown by |\n|---|---|---|\n{row}\n")) != []
