"""Clients in several languages: how they send a body, what they wait for, and whether their next request works."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.browser.pictures import picture
from tests.clients.conftest import program
from tests.documents import ROOT
from tests.e2e.process import ServerProcess, server
from tests.requirements import missing
from tests.waiting import until

PROGRAMS = Path(__file__).parent / "programs"
PACKAGES = ROOT / ".cache/clients/node_modules"
BODY_LIMIT = 1_000_000

_INSTALLED = [pytest.param(name, marks=pytest.mark.client) for name in ("curl", "go", "http", "axios")]
_PYTHON = [pytest.param(name, marks=[pytest.mark.extra, pytest.mark.slow]) for name in ("requests", "httpx", "aiohttp")]
_JAVA, _FETCH = (pytest.param(name, marks=pytest.mark.client) for name in ("java", "fetch"))

pytestmark = pytest.mark.timeout(300)  # Go compiles its library first
every_client = pytest.mark.parametrize("client", [*_INSTALLED, *_PYTHON, _JAVA, _FETCH])
#: fetch refuses to send Expect.
clients_that_ask = pytest.mark.parametrize("client", [*_INSTALLED, *_PYTHON, _JAVA])
#: Java does not ask before what is refused: JDK 17 never completes an answer other than 100, whatever the server.
clients_that_ask_in_vain = pytest.mark.parametrize("client", [*_INSTALLED, *_PYTHON])


@dataclass(frozen=True)
class Exchange:
    """A request as the service saw it, and its answer as the client saw it."""

    sent: dict[str, str]  # headers
    port: int  # the client's
    status: int
    answer: Any

    @property
    def classes(self) -> list[list[str]]:
        """The labels of each photo."""
        assert self.status == 200, self.answer
        return [[found["label"] for found in result["predictions"]] for result in self.answer["results"]]


#: Takes a client and the step of its program.
Talk = Callable[[str, str], list[Exchange]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the programs send."""
    path = tmp_path_factory.mktemp("sent")
    (path / "first.jpg").write_bytes(picture(1).data)
    (path / "second.jpg").write_bytes(picture(2).data)
    (path / "first.jpg.gz").write_bytes(gzip.compress(picture(1).data))
    (path / "large").write_bytes(bytes(4 * BODY_LIMIT))
    (path / "words").write_bytes(b"no photo\n" * 100)
    return path


@pytest.fixture(scope="module")
def spied(tiny: list[str]) -> Iterator[ServerProcess]:
    arguments = (*tiny, "--no-access-log", "--max-body-bytes", str(BODY_LIMIT))
    with server(*arguments, program=("-m", "tests.clients.spied")) as running:
        yield running


@pytest.fixture(scope="module")
def photos(spied: ServerProcess, folder: Path) -> list[list[str]]:
    """The labels of both, each asked for by itself."""
    found = []
    with spied.client() as client:
        for name in ("first.jpg", "second.jpg"):
            answer = client.post("/classify", content=(folder / name).read_bytes())
            found += Exchange({}, 0, answer.status_code, answer.json()).classes
    assert found[0] != found[1]
    return found


@pytest.fixture(scope="module")
def talk(spied: ServerProcess, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Talk:
    """A client's program is run when it is first asked for."""

    @cache
    def run(client: str) -> tuple[list[tuple[str, Exchange]], str]:
        command = command_of(client, tmp_path_factory, spied.url, str(folder))
        environment = {**os.environ, "NODE_PATH": str(PACKAGES)}
        before = len(spied.lines)
        done = subprocess.run(["timeout", "90", *command], capture_output=True, text=True, env=environment)
        printed = [json.loads(line) for line in done.stdout.splitlines()]

        def heads() -> list[Any]:
            return [json.loads(line) for line in spied.lines[before:] if '"x-request-id"' in line]

        until(lambda: len(heads()) >= len(printed), timeout=60, what="what the service has seen")
        exchanges = [
            (step, Exchange(head["headers"], head["port"], status, answer))
            for (step, answer, status), head in zip(printed, heads(), strict=False)  # the last may have no answer
        ]
        return exchanges, f"exit status {done.returncode}: {done.stderr}"

    def exchanges_of(client: str, step: str) -> list[Exchange]:
        exchanges, end = run(client)
        found = [exchange for name, exchange in exchanges if name == step]
        assert len(found) == {"refused": 2, "reused": 3}.get(step, 1), end
        return found

    return exchanges_of


def command_of(client: str, folders: pytest.TempPathFactory, *arguments: str) -> list[str]:
    if client == "curl":
        program("curl")
        return [str(PROGRAMS / "client.sh"), *arguments]
    if client == "go":
        binary = folders.mktemp("go") / "client"
        # Without cgo no C compiler is needed, and the cache goes with the binary.
        environment = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(binary.parent), "GOFLAGS": "-mod=mod"}
        build = [program("go"), "build", "-o", str(binary), str(PROGRAMS / "client.go")]
        subprocess.run(build, env=environment, check=True)
        return [str(binary), *arguments]
    if client == "java":
        program("javac")  # a JRE alone cannot run a source file
        return [program("java"), str(PROGRAMS / "Client.java"), *arguments]
    if client in ("requests", "httpx", "aiohttp"):
        return [sys.executable, str(PROGRAMS / "client.py"), *arguments, client]
    if not PACKAGES.is_dir():
        missing(f"no packages in {PACKAGES.relative_to(ROOT)}", required_by="REQUIRE_CLIENTS")
    return [program("node"), str(PROGRAMS / "client.mjs"), *arguments, client]


@every_client
def test_a_photo_as_the_body(client: str, talk: Talk, photos: list[list[str]]) -> None:
    (raw,) = talk(client, "raw")
    assert raw.classes == photos[:1]
    assert "content-length" in raw.sent


@every_client
def test_a_form_of_two_photos(client: str, talk: Talk, photos: list[list[str]]) -> None:
    (form,) = talk(client, "form")
    assert form.classes == photos
    assert form.sent["content-type"].startswith("multipart/form-data; boundary=")


@every_client
def test_a_body_whose_length_is_not_known_before(client: str, talk: Talk, photos: list[list[str]]) -> None:
    (chunked,) = talk(client, "chunked")
    assert chunked.classes == photos[:1]
    assert chunked.sent["transfer-encoding"] == "chunked"
    assert "content-length" not in chunked.sent


@every_client
def test_a_compressed_body(client: str, talk: Talk, photos: list[list[str]]) -> None:
    (compressed,) = talk(client, "gzip")
    assert compressed.classes == photos[:1]
    assert compressed.sent["content-encoding"] == "gzip"


@clients_that_ask
def test_a_body_that_is_asked_for(client: str, talk: Talk, photos: list[list[str]]) -> None:
    (asked,) = talk(client, "expect")
    assert asked.classes == photos[:1]
    assert asked.sent["expect"].lower() == "100-continue"


@every_client
def test_a_photo_is_answered_after_a_body_that_was_too_large(client: str, talk: Talk, photos: list[list[str]]) -> None:
    refused, good = talk(client, "refused")
    assert refused.status == 413
    assert good.classes == photos[:1]


@clients_that_ask_in_vain
def test_a_refusal_that_did_not_ask_for_the_body_ends_the_connection(client: str, talk: Talk) -> None:
    refused, good = talk(client, "refused")
    assert refused.sent["expect"] == "100-continue"
    assert good.port != refused.port  # whether the body will follow nobody knows


@every_client
def test_a_connection_outlives_an_error(client: str, talk: Talk, photos: list[list[str]]) -> None:
    wrong, *good = talk(client, "reused")
    assert wrong.status == 415
    assert [exchange.classes for exchange in good] == [photos[:1], photos[:1]]
    assert wrong.port in [exchange.port for exchange in good]  # fetch takes turns with two connections
