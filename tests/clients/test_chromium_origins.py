"""A page of another origin in Chromium: what it can ask and read, where the service allows that and where not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.browser.conftest import NewVisit
from tests.browser.pictures import picture
from tests.browser.visit import Visit
from tests.e2e.process import ServerProcess, server
from tests.waiting import until

pytestmark = pytest.mark.browser

_KEYS = {"MOBILENET_API_KEYS": "alpha"}

#: Posts a file of its own origin to the service. None if the browser withholds the answer.
_ASK = """async ([url, key, name]) => {
    const photo = await (await fetch(name)).blob();
    try {
        const answer = await fetch(`${url}/classify`, {method: "POST", headers: {"X-API-Key": key}, body: photo});
        const headers = ["X-Request-Id", "Server-Timing"].map(name => answer.headers.get(name));
        return [answer.status, await answer.json(), ...headers];
    } catch (error) {
        return null;
    }
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of another server, with a page on it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "index.html").write_text('<!doctype html><link rel="icon" href="data:,"><title>elsewhere</title>')
    (folder / "photo.jpg").write_bytes(picture(1).data)
    (folder / "words.txt").write_text("no photo")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield other.server_port
        other.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def allowing(tiny: list[str], elsewhere: int) -> Iterator[ServerProcess]:
    with server(*tiny, "--cors-origins", f"http://127.0.0.1:{elsewhere}", environment=_KEYS) as running:
        yield running


def ask(visit: Visit, url: str, key: str = "alpha", name: str = "photo.jpg") -> Any:
    return visit.page.evaluate(_ASK, [url, key, name])


@pytest.fixture
def page(new_visit: NewVisit, elsewhere: int) -> Visit:
    visit = new_visit(f"http://127.0.0.1:{elsewhere}")
    visit.page.goto(visit.url)
    return visit


def test_a_page_of_an_allowed_origin_reads_the_answer_and_its_headers(page: Visit, allowing: ServerProcess) -> None:
    status, answer, request_id, timing = ask(page, allowing.url)
    assert (status, len(answer["results"])) == (200, 1)
    until(lambda: f"request_id={request_id}" in allowing.output, timeout=60, what="it is logged")
    assert "infer;dur=" in timing
    assert "method=OPTIONS path=/classify" in allowing.output  # the key made the browser ask first


def test_a_page_of_an_allowed_origin_reads_errors(page: Visit, allowing: ServerProcess) -> None:
    page.expects("401|415")
    status, problem, *_ = ask(page, allowing.url, key="beta")
    assert (status, problem["title"]) == (401, "Unauthorized")
    status, problem, *_ = ask(page, allowing.url, name="words.txt")
    assert (status, problem["title"]) == (415, "Unsupported image format")


def assert_withheld(visit: Visit, url: str) -> None:
    visit.expects("ERR_FAILED|blocked by CORS policy")
    with visit.page.expect_console_message(lambda message: "blocked by CORS policy" in message.text):
        assert ask(visit, url) is None


def test_a_page_of_another_origin_is_told_nothing(new_visit: NewVisit, elsewhere: int, allowing: ServerProcess) -> None:
    other = new_visit(f"http://localhost:{elsewhere}")  # the same page; its origin is this name
    other.page.goto(other.url)
    assert_withheld(other, allowing.url)


def test_without_allowed_origins_no_page_is_told_anything(page: Visit, tiny: list[str]) -> None:
    with server(*tiny, environment=_KEYS) as service:
        assert_withheld(page, service.url)
