"""Keyboard, screen reader, small and large screens, both themes, little motion; and screenshots to look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import expect

from tests.browser import pictures
from tests.browser.conftest import NewVisit
from tests.browser.pictures import File
from tests.browser.visit import Visit, payload
from tests.documents import ROOT
from tests.e2e.process import ServerProcess

Theme = Literal["light", "dark"]

SIZES: dict[str, dict[str, Any]] = {
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "desktop": {"viewport": {"width": 1440, "height": 900}},
}


def full(visit: Visit, photos: list[File]) -> None:
    """Every kind of card, the board with its layout, the result of a burst."""
    visit.expects("415")
    tiff = pictures.encoded(pictures.drawn(1), "scan.tif")
    visit.add(*photos[:8], pictures.turned(6), tiff, pictures.TEXT)
    visit.card(photos[1].name).get_by_role("button", name="More classes").click()
    expect(visit.card(photos[1].name).locator(".classes button")).to_have_count(20)
    visit.page.get_by_role("button", name="Send 50 requests").click()
    expect(visit.page.locator("#burst-words")).to_contain_text("50 answered", timeout=20_000)
    expect(visit.page.locator(".spot")).to_have_count(10)


def serious(visit: Visit, axe: str) -> list[str]:
    visit.page.evaluate(axe)
    found = visit.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {node['html'][:160]} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    new_visit: NewVisit, served: ServerProcess, photos: list[File], axe: str, theme: Theme
) -> None:
    # Still pictures: a colour in the middle of a transition is nobody's contrast.
    visit = new_visit(served.url, color_scheme=theme, reduced_motion="reduce")
    visit.open()
    assert serious(visit, axe) == []
    full(visit, photos)
    assert serious(visit, axe) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_screenshots(new_visit: NewVisit, served: ServerProcess, photos: list[File], theme: Theme, size: str) -> None:
    folder = Path(os.environ.get("SCREENSHOTS", ROOT / ".cache/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    visit = new_visit(served.url, color_scheme=theme, reduced_motion="reduce", **SIZES[size])
    visit.open()
    visit.page.screenshot(path=folder / f"empty-{size}-{theme}.png")
    full(visit, photos)
    visit.page.evaluate("scrollTo(0, 0)")
    visit.page.screenshot(path=folder / f"full-{size}-{theme}.png", full_page=True)
    visit.page.screenshot(path=folder / f"top-{size}-{theme}.png")
    assert len(list(folder.glob(f"*-{size}-{theme}.png"))) >= 3


@pytest.mark.parametrize("width", [320, 768, 2560])
def test_nothing_is_wider_than_the_screen(
    new_visit: NewVisit, served: ServerProcess, photos: list[File], width: int
) -> None:
    visit = new_visit(served.url, viewport={"width": width, "height": 800})
    visit.open()
    wide = "document.documentElement.scrollWidth"
    assert visit.page.evaluate(wide) <= width
    long_name = File("a-very-long-name-without-any-space-" * 4 + ".jpg", "image/jpeg", photos[0].data)
    visit.add(long_name, *photos[1:7])
    expect(visit.page.locator(".spot")).to_have_count(7)
    assert visit.page.evaluate(wide) <= width


def test_by_keyboard_alone(visit: Visit, photos: list[File]) -> None:
    press, active = visit.page.keyboard.press, "document.activeElement.id || document.activeElement.className"

    def tab_to(selector: str) -> None:
        for _ in range(60):
            press("Tab")
            if visit.page.evaluate(f"document.activeElement.matches('{selector}')"):
                return
        pytest.fail(f"{selector} is not reached")

    press("Tab")
    assert visit.page.evaluate(active) == "skip"
    expect(visit.page.locator(".skip")).to_be_in_viewport()
    press("Enter")
    assert visit.page.evaluate(active) == "results"
    visit.page.locator(".skip").focus()
    press("Tab")
    assert visit.page.evaluate(active) == "choose"
    outline = visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    with visit.page.expect_file_chooser() as choosing:
        press("Enter")
    choosing.value.set_files(payload(photos[:3]))
    visit.settled(3)
    press("Tab")
    assert visit.page.evaluate(active) == "shrink"
    press("Tab")
    assert visit.page.evaluate(active) == "burst"
    press("Tab")
    assert visit.page.evaluate(active) == "opacity"
    press("ArrowRight")
    expect(visit.page.locator("#opacity-words")).to_have_text("61 %")
    tab_to(".classes button")
    press("Tab")
    press("Enter")
    second = visit.page.locator(".card").first.locator(".classes button").nth(1)
    expect(second).to_have_attribute("aria-pressed", "true")
    tab_to("#csv")
    tab_to("#matrix")
    expect(visit.page.locator("#pair")).to_contain_text(f"{photos[0].name} and {photos[1].name}: ")
    press("ArrowDown")
    press("End")
    expect(visit.page.locator("#pair")).to_contain_text(f"{photos[1].name} and {photos[2].name}: ")


def test_what_happens_is_said(visit: Visit, photos: list[File]) -> None:
    visit.add(photos[0])
    expect(visit.page.locator("#say")).to_contain_text(f"{photos[0].name}: ")
    expect(visit.page.locator("#say")).to_contain_text("%")
    for name in ("#say", "#banner", "#pair", "#burst-words", "#state"):
        expect(visit.page.locator(name)).to_have_attribute("role", "status")


@pytest.mark.parametrize(("wish", "motion"), [("reduce", False), ("no-preference", True)])
def test_motion_is_a_choice(
    new_visit: NewVisit, served: ServerProcess, wish: Literal["reduce", "no-preference"], motion: bool
) -> None:
    visit = new_visit(served.url, reduced_motion=wish)
    visit.open()
    visit.add(pictures.picture(1))
    moving = visit.page.evaluate("""() => [...document.querySelectorAll('*')].some(node => {
        const {animationName, transitionDuration} = getComputedStyle(node);
        return animationName !== 'none' || transitionDuration !== '0s';
    })""")
    assert moving is motion
