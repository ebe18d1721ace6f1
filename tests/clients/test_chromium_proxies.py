"""The page and Swagger UI in Chromium, below a proxy's prefix."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewVisit
from tests.browser.pictures import picture
from tests.browser.visit import payload
from tests.clients.conftest import Proxied

pytestmark = [pytest.mark.browser, pytest.mark.client]


def test_the_page_works_below_the_prefix(proxied: Proxied, new_visit: NewVisit) -> None:
    visit = new_visit(proxied.url)
    visit.open()
    visit.add(picture(1))
    expect(visit.page.locator(".card")).to_have_attribute("data-state", "answered")


def test_swagger_asks_below_the_prefix(proxied: Proxied, new_visit: NewVisit) -> None:
    visit = new_visit(proxied.url)
    visit.page.goto(f"{proxied.url}docs")
    visit.expects("JsonSchema_string_binary")  # Swagger UI looks for that before it takes what it has for any string
    classify = visit.page.locator("#operations-inference-classify")
    classify.locator(".opblock-summary").click()
    classify.locator('input[type="file"]').first.set_input_files(payload([picture(1)]))
    with visit.page.expect_response("**/classify?*") as asked:
        classify.get_by_role("button", name="Execute").click()
    assert asked.value.url == f"{proxied.url}classify?top_k=5"
    answer = classify.locator(".live-responses-table")
    expect(answer.get_by_role("cell", name="200", exact=True)).to_be_visible()
    expect(answer).to_contain_text('"label": "class ')
