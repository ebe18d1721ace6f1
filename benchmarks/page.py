"""The page in a browser: its weight, its first paint, and its response to keys while fifty photos upload.

``python -m benchmarks.page [--browser /usr/bin/chromium] [--screenshot FILE]``. Browser, server and photos share this
machine. With ``--screenshot`` nothing is measured; the file receives a picture of the page with ``docs/photos`` on it.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Response, expect, sync_playwright

from benchmarks import photos
from benchmarks.processes import Server, environment
from benchmarks.report import bullets, table

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOWN = [
    Path(__file__).parents[1] / "docs" / "photos" / f"{name}.jpg"
    for name in ("cat", "coffee", "rocket", "photographer", "astronaut")
]
_LOADS = 15
_PHOTOS = 50

#: Records the durations of long tasks on the main thread, and the time from each press of a key to its frame.
_WATCH = """() => {
    window.measured = {tasks: [], presses: []};
    new PerformanceObserver(list => measured.tasks.push(...list.getEntries().map(entry => entry.duration)))
        .observe({type: "longtask"});
    new PerformanceObserver(list => measured.presses.push(
        ...list.getEntries().filter(entry => entry.name === "keydown").map(entry => entry.duration)
    )).observe({type: "event", durationThreshold: 16});
}"""


def loads(browser: Browser, url: str) -> tuple[int, int, list[float]]:
    """Bytes and requests of the page; milliseconds to its first contentful paint, each in a new context."""
    weights: list[list[int]] = []
    paints: list[float] = []
    for _ in range(_LOADS):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        answers: list[Response] = []

        def note(answer: Response, answers: list[Response] = answers) -> None:
            answers.append(answer)

        page.on("response", note)
        page.goto(url, wait_until="load")
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
        while not (at := page.evaluate(paint)):
            page.wait_for_timeout(10)
        paints.append(at)
        weights.append([len(answer.body()) for answer in answers if _is_the_pages_own(answer)])
        context.close()
    return sum(weights[0]), len(weights[0]), paints


def _is_the_pages_own(answer: Response) -> bool:
    """Whether ``answer`` belongs to the page itself, rather than to a request to the API."""
    return answer.url.endswith("/") or "/page/" in answer.url


def uploads(browser: Browser, url: str, files: list[Path]) -> tuple[float, list[float], list[float], int]:
    """Upload ``files`` while the arrow keys move the slider of the class maps.

    Returns seconds until all are answered, milliseconds of each long task and of each slow press, and the number of
    presses.
    """
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#state")).to_have_text("Ready")
    page.set_input_files("#files", [str(files[0])])
    answered = page.locator('.card[data-state="answered"]')
    expect(answered).to_have_count(1, timeout=30_000)
    slider = page.locator('input[type="range"]')
    slider.focus()
    page.evaluate(_WATCH)
    began = page.evaluate("performance.now()")
    page.set_input_files("#files", [str(file) for file in files])
    presses = 0
    while answered.count() < 1 + len(files):
        page.keyboard.press("ArrowLeft" if presses % 20 < 10 else "ArrowRight")
        presses += 1
        page.wait_for_timeout(50)
    took = page.evaluate("performance.now()") - began
    measured = page.evaluate("measured")
    context.close()
    return took / 1e3, measured["tasks"], measured["presses"], presses


def photograph(browser: Browser, url: str, path: Path) -> None:
    """Save a picture of the page with ``SHOWN`` on it, for the README."""
    context = browser.new_context(viewport={"width": 1280, "height": 1180}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(url)
    page.set_input_files("#files", [str(photo) for photo in SHOWN])
    expect(page.locator('.card[data-state="answered"]')).to_have_count(len(SHOWN), timeout=30_000)
    expect(page.locator(".stage img:not([hidden])")).to_have_count(len(SHOWN))
    expect(page.locator("#rate")).not_to_have_text(re.compile("^[0–]$"))
    page.screenshot(path=path, type="jpeg", quality=82)
    context.close()


def measure(browser: Browser, url: str) -> None:
    weight, requests, paints = loads(browser, url)
    rows = [
        ["weight of the page", f"{weight / 1e3:.1f} kB in {requests} answers"],
        ["first contentful paint, median of 15", f"{median(paints):.0f} ms"],
        ["first contentful paint, slowest", f"{max(paints):.0f} ms"],
    ]
    with tempfile.TemporaryDirectory() as folder:
        for size in (photos.STANDARD, "4000x3000"):
            # Photos of twelve megapixels take seconds to make, so a few are sent several times.
            bodies = photos.collection(size, 8)
            files = [Path(folder) / f"{size}-{index}.jpg" for index in range(_PHOTOS)]
            for index, file in enumerate(files):
                file.write_bytes(bodies[index % len(bodies)])
            took, tasks, presses, count = uploads(browser, url, files)
            rows += [
                [f"{_PHOTOS} photos of {size}: all answered after", f"{took:.1f} s"],
                ["  longest piece of work on the main thread", f"{max(tasks, default=0):.0f} ms"],
                [f"  {count} presses of a key, to the next frame: slowest", f"{max(presses, default=16):.0f} ms"],
                ["  of them over 100 ms", str(sum(press > 100 for press in presses))],
            ]
    facts = environment(["openvino", "playwright"]) | {"browser": f"Chromium {browser.version}"}
    sys.stdout.write("\n".join([*bullets(facts), "", table(["", ""], rows), ""]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--screenshot", type=Path)
    given = parser.parse_args()
    with Server() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.browser, args=ARGUMENTS)
        if given.screenshot is None:
            measure(browser, server.url)
        else:
            photograph(browser, server.url, given.screenshot)
        browser.close()


if __name__ == "__main__":
    main()
