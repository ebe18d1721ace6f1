"""A browser, a server with the real model, and a visit that fails its test when the browser complains.

Package scope, not session: while Playwright's synchronous interface is open, its event loop counts as running in this
thread, and no other asynchronous test could run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.model.artifact import Artifact
from tests import photos as photo_files
from tests.browser.pictures import File
from tests.documents import ROOT
from tests.e2e.process import ServerProcess, server
from tests.requirements import missing

#: A busy machine takes its time; Playwright gives up after 5 s.
_PATIENCE_MS = 20_000

try:
    from playwright.sync_api import Browser, expect, sync_playwright

    from docs.draw_page import ARGUMENTS
    from tests.browser.visit import Visit

    expect.set_options(timeout=_PATIENCE_MS)
except ImportError:
    collect_ignore_glob = ["test_[!i]*.py"]  # test_installed says why

AXE = ROOT / ".cache/axe/node_modules/axe-core/axe.min.js"

NewVisit = Callable[..., "Visit"]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if program is None:
        missing("no chromium is installed", required_by="REQUIRE_BROWSER")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="package")
def served(real_artifact: Artifact) -> Iterator[ServerProcess]:
    with server("--no-access-log") as running:
        yield running


@pytest.fixture(scope="package")
def photos() -> list[File]:
    return [File(photo.name, "image/jpeg", photo.data) for photo in photo_files.load()]


@pytest.fixture(scope="package")
def axe() -> str:
    if not AXE.is_file():
        missing(f"no axe-core at {AXE.relative_to(ROOT)}", required_by="REQUIRE_BROWSER")
    return AXE.read_text("utf-8")


@pytest.fixture
def new_visit(browser: Browser) -> Iterator[NewVisit]:
    """``new_visit(url, **options of a browser context)``."""
    visits: list[Visit] = []

    def make(url: str, **options: Any) -> Visit:
        options.setdefault("viewport", {"width": 1280, "height": 800})
        context = browser.new_context(**options)
        context.set_default_timeout(_PATIENCE_MS)
        visits.append(Visit(context.new_page(), url))
        return visits[-1]

    yield make
    complaints = [visit.complaints for visit in visits]
    for visit in visits:
        visit.page.context.close()
    assert not any(complaints), complaints


@pytest.fixture
def visit(new_visit: NewVisit, served: ServerProcess) -> Visit:
    """An open page."""
    made = new_visit(served.url)
    made.open()
    return made
