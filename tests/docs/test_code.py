"""What documents and docstrings name exists in the code, and the constants that documents state are the code's.

Names are looked up in the source files, not in a list, so that whatever is renamed or moved is noticed. A constant
is stated by its value with a comment behind it that names where the value comes from, relative to ``service``:
``after 10 s<!-- memory: _PATIENCE_S -->``. What follows the colon is an expression of that module's names.
"""

from __future__ import annotations

import ast
import io
import mimetypes
import re
import tokenize
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path

import prometheus_client
import pytest

from service.image import Limits
from service.model.aliases import ALIASES
from tests.documents import PAGES, ROOT, page_name, prose, read, rows, spans
from tests.layers import ORDER

SERVICE = ROOT / "service"
MODULES = sorted([*SERVICE.rglob("*.py"), *(ROOT / "client" / "mobilenet_client").glob("*.py")])
#: A changelog tells what was.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]

_WORD = re.compile(r"\w+")


def identifiers(path: Path) -> set[str]:
    return {token.string for token in tokens(path) if token.type == tokenize.NAME}


def tokens(path: Path) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(path.read_text()).readline))


@cache
def code_names() -> frozenset[str]:
    """Modules, identifiers, words of strings (docstrings and comments are none), and metrics that a library adds."""
    names = {sample.name for metric in prometheus_client.REGISTRY.collect() for sample in metric.samples}
    for path in MODULES:
        names |= {path.stem, path.parent.name} | identifiers(path)
        for token in tokens(path):
            if token.type == tokenize.STRING and not token.string.startswith('"""'):
                names.update(_WORD.findall(token.string))
    return frozenset(names)


@cache
def configured_names() -> frozenset[str]:
    """Words of what is deployed: its manifests and configuration, without comments."""
    files = (path for kind in ("yml", "yaml", "cfg") for path in (ROOT / "deploy").rglob(f"*.{kind}"))
    return frozenset().union(*(_WORD.findall(re.sub(r"#.*", "", path.read_text())) for path in files))


@cache
def repository() -> frozenset[str]:
    """Every end of every path, from the root down; folders end with a slash."""
    shown = (path for top in ROOT.iterdir() if top.name[0] != "." for path in (top, *top.rglob("*")))
    ends: set[str] = set()
    for path in shown:
        parts = path.relative_to(ROOT).parts
        ends.update("/".join(parts[start:]) + "/" * path.is_dir() for start in range(len(parts)))
    return frozenset(ends)


@cache
def defined_tests() -> frozenset[str]:
    sources = [path.read_text() for part in ("tests", "client/tests") for path in (ROOT / part).rglob("test_*.py")]
    return frozenset(re.findall(r"def (test_\w+)\(", "".join(sources)))


def name_complaint(name: str, known: frozenset[str]) -> str | None:
    """What is wrong with ``name``, which stands in backticks somewhere. Names of other projects have a dot in them."""
    if re.fullmatch(r"(?:[\w-]+/)*[\w-]+\.(?:py|js|json|css|html|yml|yaml|cfg|sh|toml)|(?:[a-z_][\w-]*/)+", name):
        made = name.removeprefix("model_store/") == ALIASES  # by a command
        return None if made or name in repository() else "no such file or folder"
    if name.startswith("test_"):
        return None if name in defined_tests() else "no such test"
    if re.fullmatch(r"[a-z]\w*/\w+", name) and (SERVICE / name.split("/")[0]).is_dir():
        exists = (SERVICE / f"{name}.py").exists() or name in mimetypes.types_map.values()
        return None if exists or (SERVICE / name).is_dir() else "no such module"
    if dotted := re.fullmatch(r"((?:service|tests|benchmarks)(?:\.\w+)+|\w+\.\w+)(?:\(\S*\))?", name):
        return dotted_complaint(dotted[1].split("."))
    if re.fullmatch(r"[a-z_]\w*|[A-Z][a-z]\w*", name):
        # A metric as it is scraped, or one thread of several.
        stem = re.sub(r"(_total|_\d+|_N)$", "", name.removeprefix("mobilenet_"))
        return None if name in known or stem in known else "no such name"
    return None


def dotted_complaint(parts: list[str]) -> str | None:
    """Of ``service.a.b`` and of ``a.b`` where ``a`` is a module or package of the service."""
    top = ROOT if parts[0] in ("service", "tests", "benchmarks") else SERVICE
    owners = [top / parts[0]] if top == ROOT else [*top.rglob(parts[0]), *top.rglob(f"{parts[0]}.py")]
    for part in parts[1:]:
        files = [owner / "__init__.py" if owner.is_dir() else owner for owner in owners]
        owners = [path for owner in owners for path in (owner / part, owner / f"{part}.py") if path.exists()]
        if not owners:
            known = not files or any(part in identifiers(file) for file in files) or parts[0] in libraries()
            return None if known else f"no {part} there"
    return None


@cache
def libraries() -> frozenset[str]:
    """What the service imports by a plain name, which a module of its own may share: torch."""
    nodes = (node for path in MODULES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import))
    return frozenset(alias.name for node in nodes for alias in node.names)


def name_complaints(names: Iterator[str] | list[str], known: frozenset[str]) -> list[str]:
    return [f"{name}: {wrong}" for name in sorted(set(names)) if (wrong := name_complaint(name, known))]


def documented_names(source: str) -> list[str]:
    """What stands in double backticks in docstrings and comments."""
    docstrings = [
        ast.get_docstring(node, clean=False) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return re.findall(r"``([^`\n]+)``", "\n".join(docstrings + re.findall(r"#.*", source)))


@pytest.mark.parametrize("page", CURRENT, ids=page_name)
def test_names_in_documents_exist(page: Path) -> None:
    assert name_complaints(spans(prose(page.read_text())), code_names() | configured_names()) == []


@pytest.mark.parametrize("path", MODULES, ids=page_name)
def test_names_in_docstrings_and_comments_exist(path: Path) -> None:
    assert name_complaints(documented_names(path.read_text()), code_names()) == []


@pytest.mark.parametrize(
    "name",
    [
        *("compose", "http/gone", "http/gone.py", "gone/", "test_of_nothing", "Fabricated", "errors.gone"),
        *("service.gone", "service.errors.gone", "service.http.gone", "tests.gone", "http.gone()"),
    ],
)
def test_a_name_of_nothing_is_noticed(name: str) -> None:
    known = code_names() | configured_names()
    assert len(name_complaints(spans(f"As `{name}` does."), known)) == 1
    assert len(name_complaints(documented_names(f'"""As ``{name}`` does."""'), known)) == 1
    assert len(name_complaints(documented_names(f"x = 1  #: as ``{name}`` does"), known)) == 1


# Constants

_UNITS = {
    **{"": 1, "s": 1, "ms": 1e-3, "minutes": 60, "%": 0.01, "million": 1e6, "megapixels": 1e6},
    **{"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
}
_STATED = re.compile(r"(?:([\d,]*\.?\d+) ?(%|[A-Za-z]*))?<!-- (.*?) -->")


def constant_complaints(text: str) -> Iterator[str]:
    for value, unit, origin in _STATED.findall(text):
        module, _, expression = origin.partition(": ")
        if not value or unit not in _UNITS:
            yield f"{origin}: no value with a known unit stands before it"
            continue
        try:
            actual = eval(expression, dict(vars(import_module(f"service.{module}"))))
        except (ImportError, AttributeError, NameError, SyntaxError) as error:
            yield f"{origin}: {error}"
        else:
            if float(value.replace(",", "")) * _UNITS[unit] != pytest.approx(actual):
                yield f"{origin}: it is {actual}, not {value} {unit}"


@pytest.mark.parametrize("page", CURRENT, ids=page_name)
def test_constants_in_documents_are_the_codes(page: Path) -> None:
    assert list(constant_complaints(page.read_text())) == []


def test_documents_state_constants() -> None:
    assert sum(len(_STATED.findall(page.read_text())) for page in CURRENT) > 30


@pytest.mark.parametrize(
    "text",
    [
        "after 7 s<!-- engine.watchdog: TICK_S -->",
        "after 1 ms<!-- engine.watchdog: TICK_S -->",
        "after 1 fortnight<!-- engine.watchdog: TICK_S -->",
        "after a second<!-- engine.watchdog: TICK_S -->",
        "after 1 s<!-- engine.watchdog: TOCK_S -->",
        "after 1 s<!-- engine.watchman: TICK_S -->",
        "after 1 s<!-- TICK_S -->",
        "after 11 s<!-- engine.watchdog: HUNG_AFTER * TICK_S -->",
    ],
)
def test_a_wrong_constant_is_noticed(text: str) -> None:
    assert len(list(constant_complaints(text))) == 1


def limit_complaints(text: str) -> Iterator[str]:
    table = {names[0]: row for row in rows(text) if (names := spans(row[0]))}
    for field in fields(Limits):
        if field.name not in table or table[field.name][1] != f"{field.default:,}":
            yield f"{field.name} is {field.default:,}"


def test_the_limits_of_an_image_are_described_as_they_are() -> None:
    text = read("docs/preprocessing.md")
    assert list(limit_complaints(text)) == []
    assert len(list(limit_complaints(text.replace("| 65,536 |", "| 65,535 |")))) == 1
    assert len(list(limit_complaints(text.replace("`max_side`", "`max_length`")))) == 1


# The table of layers


def test_the_architecture_has_the_rooms_of_the_code_in_their_order() -> None:
    layers = read("docs/architecture.md").partition("## Layers")[2].partition("\n## ")[0]
    documented = [frozenset(span.strip("/") for span in spans(row[1])) for row in rows(layers)[1:]]
    assert documented == [level for level in ORDER if level != {"__main__"}]
