"""One visit to the page: what a person does and sees there, and everything the browser complained about."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import ConsoleMessage, Error, FilePayload, Locator, Page, expect

from tests.browser.pictures import File

#: A file made in the page from its bytes, in a DataTransfer: what a drop and a paste carry.
_TRANSFER = """files => {
    const transfer = new DataTransfer();
    for (const [name, type, text] of files) {
        const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
        transfer.items.add(new File([bytes], name, {type}));
    }
    return transfer;
}"""


def payload(files: Sequence[File]) -> list[FilePayload]:
    """The files as Playwright's choosers take them."""
    return [{"name": file.name, "mimeType": file.kind, "buffer": file.data} for file in files]


@dataclass
class Visit:
    """A page of a server; ``complaints`` are errors of the console and exceptions, but those that were expected."""

    page: Page
    url: str
    _said: list[str] = field(default_factory=list)
    _expected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_error)
        # From the start: a chooser that is only just being expected may open before the browser knows of it.
        self.page.on("filechooser", lambda chooser: None)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._said.append(message.text)

    def _on_error(self, error: Error) -> None:
        self._said.append(f"exception: {error}")

    def expects(self, pattern: str) -> None:
        """The browser itself logs every answer that is an error."""
        self._expected.append(pattern)

    @property
    def complaints(self) -> list[str]:
        return [text for text in self._said if not any(re.search(pattern, text) for pattern in self._expected)]

    def open(self) -> None:
        self.page.goto(self.url)
        expect(self.page.locator("#state")).to_have_text("Ready")

    def choose(self, *files: File) -> None:
        self.page.set_input_files("#files", payload(files))

    def transfer(self, files: Sequence[File]) -> Any:
        """A handle of a DataTransfer with ``files``."""
        texts = [(file.name, file.kind, base64.b64encode(file.data).decode()) for file in files]
        return self.page.evaluate_handle(_TRANSFER, texts)

    def drop_padded(self, file: File, size: int) -> None:
        """Drops ``file`` with zeros behind its end, up to ``size`` bytes, which are made in the page."""
        pad = """([transfer, size]) => {
            const file = transfer.files[0];
            const dataTransfer = new DataTransfer();
            const zeros = new Uint8Array(size - file.size);
            dataTransfer.items.add(new File([file, zeros], file.name, {type: file.type}));
            window.dispatchEvent(new DragEvent("drop", {dataTransfer}));
        }"""
        self.page.evaluate(pad, [self.transfer([file]), size])

    def card(self, name: str) -> Locator:
        return self.page.locator(".card").filter(has=self.page.get_by_role("heading", name=name, exact=True))

    def settled(self, count: int, timeout_s: float = 20) -> None:
        """Until ``count`` photos have an answer or an error, and their pictures."""
        done = self.page.locator('.card[data-state="answered"], .card[data-state="failed"]')
        expect(done).to_have_count(count, timeout=timeout_s * 1e3)
        expect(self.page.locator(".stage img:not([hidden])")).to_have_count(count)

    def add(self, *files: File) -> None:
        self.choose(*files)
        self.settled(len(files))

    def until(self, true: Callable[[], bool], timeout_s: float = 10) -> None:
        """The page's policy forbids what Playwright's own wait for an expression does."""
        end = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < end, "did not come true in time"
            self.page.wait_for_timeout(20)
