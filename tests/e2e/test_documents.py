"""Every command in a fence of README and docs is run, or it is named here who runs it, or why nobody does."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.documents import FENCE, PAGES, ROOT, page_name
from tests.e2e.process import ServerProcess
from tests.photos import Photo

_ADDRESS = "http://127.0.0.1:8000"

#: Beginnings of commands and the file that runs them.
RUN_ELSEWHERE = {
    "git clone ADDRESS": "tests/containers/test_empty_machine.py",
    "cd mobilenet-service": "tests/containers/test_empty_machine.py",
    "make serve": "tests/containers/test_empty_machine.py",
    "make test": ".ci/run",
    "make test-all": ".ci/run",
    "make check": ".ci/run",
    "make compose-up": "tests/containers/docker.py",  # by the script that make calls
    "docker compose up": "deploy/compose/up.sh",
    "docker swarm init": "tests/containers/test_swarm.py",
    "SERVICE_IMAGE=": "tests/containers/test_swarm.py",
    "mobilenet-service models quantize": "tests/runtimes/test_int8.py",
    "mobilenet-service serve --precision int8": "tests/runtimes/test_int8.py",
    "mobilenet-service models parity": "tests/store/test_parity.py",
    "kubectl apply": "tests/deploy/test_kubernetes.py",
}

#: And those that no test runs.
RUN_BY_NOBODY = {
    "make bench": "measures for minutes; docs/performance.md has what it printed",
    "make help": "prints the targets, which tests/docs holds against the documents",
    "pip install -c": "the extra is part of dev",
    "pip install ./client": "the tests import it from its folder",
    "mobilenet-service embed": "stands for millions of photos, or services elsewhere; tests/bulk runs such commands",
    "mobilenet-service classify": "writes Parquet, which needs an extra; tests/bulk runs it",
    "find /data": "the same, with a list of files",
    "source .venv/bin/activate": "for people; here programs are called by their paths",
    "docker inspect --format": "for a stack in trouble",
    "docker events --since": "for a stack in trouble",
    "docker compose logs": "for a stack in trouble",
    "kubectl create": "needs a cluster",
}


def fences(kind: str) -> list[tuple[str, str]]:
    """(page, body) of every fenced block of that kind."""
    found = [(page_name(page), fence) for page in PAGES for fence in FENCE.findall(page.read_text())]
    return [(page, body) for page, (language, body) in found if language == kind]


#: (page, line) of every command of a shell, and of those that are run here.
COMMANDS = [(page, line) for page, body in fences("sh") for line in body.splitlines() if line.strip()]
RUN_HERE = [(page, line) for page, line in COMMANDS if not line.startswith((*RUN_ELSEWHERE, *RUN_BY_NOBODY))]


@pytest.fixture(scope="module")
def folder(photos: list[Photo], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples send: photos by the names that they use."""
    path = tmp_path_factory.mktemp("examples")
    (path / "photos").mkdir()
    for name, photo in zip(("cat.jpg", "zebra.jpg", "photo.jpg"), photos, strict=False):
        (path / name).write_bytes(photo.data)
        (path / "photos" / name).write_bytes(photo.data)
    (path / "notes.txt").write_text("no image")
    (path / "docs").symlink_to(ROOT / "docs")
    return path


def test_each_command_that_is_run_elsewhere_stands_in_a_document() -> None:
    for beginning in (*RUN_ELSEWHERE, *RUN_BY_NOBODY):
        assert any(line.startswith(beginning) for _, line in COMMANDS), f"no document has {beginning} any more"
    assert all((ROOT / file).is_file() for file in RUN_ELSEWHERE.values())
    assert len(RUN_HERE) > 10


@pytest.mark.parametrize(("page", "line"), RUN_HERE, ids=[f"{page}: {line[:60]}" for page, line in RUN_HERE])
def test_the_command_works(openvino_server: ServerProcess, folder: Path, page: str, line: str) -> None:
    first, *arguments = shlex.split(line, comments=True)
    if first == "curl":
        if (curl := shutil.which("curl")) is None:
            pytest.skip("curl is not installed")
        program = [curl, "--silent", "--show-error", "--fail-with-body"]
        arguments = [argument.replace(_ADDRESS, openvino_server.url) for argument in arguments]
    else:
        assert first == ".venv/bin/mobilenet-service", f"{page}: nobody runs {line}"
        program = [sys.executable, "-m", "service"]
        arguments += ["--model-store", str(ROOT / "model_store")]
    done = subprocess.run(
        [*program, *arguments], cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
    for argument, value in pairwise(arguments):
        if argument in ("-o", "--out"):
            assert (folder / value).stat().st_size > 1000
    assert done.stdout or "-o" in arguments


@pytest.mark.parametrize(("page", "body"), fences("python"), ids=[page for page, _ in fences("python")])
def test_the_program_works(openvino_server: ServerProcess, folder: Path, page: str, body: str) -> None:
    program = body.replace(_ADDRESS, openvino_server.url)
    assert program != body
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
