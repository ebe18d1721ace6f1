"""Whether these tests can run at all."""

from __future__ import annotations

import importlib.util

from tests.requirements import missing


def test_playwright_is_installed() -> None:
    if importlib.util.find_spec("playwright") is None:
        missing(
            "playwright is not installed, and no test of the page in a browser was run", required_by="REQUIRE_BROWSER"
        )
