"""The package needs httpx and NumPy alone, and its modules are small."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CLIENT = Path(__file__).parent.parent
MODULES = sorted((CLIENT / "mobilenet_client").glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_it_imports_httpx_and_numpy_and_pillow_where_it_is_needed() -> None:
    found: set[str] = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
    assert found - sys.stdlib_module_names == {"mobilenet_client", "httpx", "numpy", "PIL"}
    imported = "import sys, mobilenet_client; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", imported], cwd=CLIENT, check=True)


def test_its_metadata_say_so() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    assert [name.split(">")[0] for name in project["dependencies"]] == ["httpx", "numpy"]
    assert (CLIENT / "mobilenet_client" / "py.typed").is_file()
    assert (CLIENT / "LICENSE").read_text() == (CLIENT.parent / "LICENSE").read_text()
