"""Imports point down only: docs/architecture.md's table of layers, enforced."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layers import LEVEL

SERVICE = Path(__file__).parent.parent / "service"

#: Heavy or telling packages, and the only parts of the service that may import them.
CONFINED = {
    "torch": {"runtimes", "store"},
    "torchvision": {"runtimes"},
    "openvino": {"runtimes"},
    "nncf": {"runtimes"},
    "h5py": {"store"},
    "PIL": {"image", "http"},
    "asyncio": {"host", "engine", "serving", "http", "bulk", "processes", "cli"},
    "fastapi": {"http"},
    "starlette": {"http"},
    "uvicorn": {"http"},
    "httptools": {"http"},
    "python_multipart": {"http"},
    "prometheus_client": {"metrics"},
    "click": {"cli"},
    "pyarrow": {"bulk"},
    "fsspec": {"bulk"},
}

FILES = sorted(SERVICE.rglob("*.py"))


def part(path: Path) -> str:
    """The layer unit a file belongs to: a module's stem or its top folder."""
    relative = path.relative_to(SERVICE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Every import in the file, wherever it stands, as the dotted name's parts."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            module = tuple(node.module.split("."))
            yield from ((*module, alias.name) for alias in node.names)


def test_few_modules_stand_outside_the_rooms() -> None:
    loose = {path.stem for path in FILES if path.parent == SERVICE} - {"__init__", "__main__"}
    assert loose == {"config", "errors", "logs", "metrics"}


def test_every_module_has_a_layer() -> None:
    assert {part(path) for path in FILES} - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SERVICE)))
def test_imports_point_down(path: Path) -> None:
    own = part(path)
    for name in imports(path):
        if name[0] == "service" and name[1] in LEVEL and name[1] != own and own != "__init__":
            assert LEVEL[name[1]] < LEVEL[own], f"{own} imports {name[1]}"
        if name[0] in CONFINED:
            assert own in CONFINED[name[0]], f"{own} imports {name[0]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SERVICE)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
