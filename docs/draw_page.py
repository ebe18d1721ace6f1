"""Draws ``docs/figures/page.jpg`` for the README: the page in Chromium with the photos of ``docs/photos`` on it.

``python -m docs.draw_page [--browser /usr/bin/chromium]``.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from benchmarks.processes import Server

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
DOCS = Path(__file__).parent
SHOWN = [str(DOCS / "photos" / f"{name}.jpg") for name in ("cat", "coffee", "rocket", "photographer", "astronaut")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    given = parser.parse_args()
    with Server() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.browser, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 1180}, reduced_motion="reduce")
        page.goto(server.url)
        page.set_input_files("#files", SHOWN)
        expect(page.locator('.card[data-state="answered"]')).to_have_count(len(SHOWN), timeout=30_000)
        expect(page.locator(".stage img:not([hidden])")).to_have_count(len(SHOWN))
        expect(page.locator("#rate")).not_to_have_text(re.compile("^[0–]$"))
        page.screenshot(path=DOCS / "figures" / "page.jpg", type="jpeg", quality=82)
        browser.close()


if __name__ == "__main__":
    main()
