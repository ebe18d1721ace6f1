"""From a file to its classes and maps: every way in, what a card shows, further classes, errors beside their photo."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser import pictures
from tests.browser.conftest import NewVisit
from tests.browser.pictures import File
from tests.browser.visit import Visit, payload
from tests.e2e.process import ServerProcess


def test_dropped_anywhere(visit: Visit) -> None:
    transfer = visit.transfer([pictures.picture(1), pictures.picture(2)])
    visit.page.dispatch_event("footer", "dragenter", {"dataTransfer": transfer})
    expect(visit.page.locator("body")).to_have_class("dragging")
    visit.page.dispatch_event("footer", "drop", {"dataTransfer": transfer})
    visit.settled(2)
    expect(visit.page.locator("body")).to_have_class("busy")


def test_pasted(visit: Visit) -> None:
    transfer = visit.transfer([pictures.picture(3, "image.png")])
    paste = "transfer => window.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer}))"
    visit.page.evaluate(paste, transfer)
    visit.settled(1)
    expect(visit.card("pasted 1.png")).to_have_attribute("data-state", "answered")


def test_chosen(visit: Visit) -> None:
    with visit.page.expect_file_chooser() as choosing:
        visit.page.get_by_role("button", name="Choose photos").click()
    assert choosing.value.is_multiple()
    choosing.value.set_files(payload([pictures.picture(4)]))
    visit.settled(1)


def test_taken(new_visit: NewVisit, served: ServerProcess) -> None:
    visit = new_visit(served.url, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    visit.open()
    with visit.page.expect_file_chooser() as choosing:
        visit.page.get_by_role("button", name="Take a photo").tap()
    assert choosing.value.element.get_attribute("capture") == "environment"


def test_progress_is_shown_while_it_is_sent(visit: Visit) -> None:
    session = visit.page.context.new_cdp_session(visit.page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 400_000}
    session.send("Network.emulateNetworkConditions", slow)
    visit.choose(pictures.encoded(pictures.drawn(5, 500, 400), "slow.png", compress_level=0))
    seen: set[float] = set()

    def answered() -> bool:
        state = visit.page.evaluate("""() => {
            const card = document.querySelector('.card');
            return [card.dataset.state, card.querySelector('progress').value];
        }""")
        if state[0] == "sending":
            seen.add(state[1])
        return bool(state[0] == "answered")

    visit.until(answered)
    assert any(0 < share < 1 for share in seen)


def test_classes_bars_and_maps(visit: Visit, served: ServerProcess, photos: list[File]) -> None:
    photo = photos[0]
    visit.expects("willReadFrequently")  # the test reads the picture, the page never does
    visit.add(photo)
    told = httpx.post(f"{served.url}/explain?top_k=5", content=photo.data).json()["results"][0]["maps"]
    card = visit.card(photo.name)
    buttons = card.locator(".classes button")
    expect(buttons).to_have_count(5)
    for place, entry in enumerate(told):
        expect(buttons.nth(place).locator(".label")).to_have_text(entry["label"])
        share = float(re.sub(r"[^\d.]", "", buttons.nth(place).locator(".share").inner_text()))
        assert share == pytest.approx(entry["probability"] * 100, abs=0.51)
        bar = buttons.nth(place).locator(".fill").evaluate("node => node.style.width")
        assert float(bar.rstrip("%")) == pytest.approx(entry["probability"] * 100, abs=1e-3)
    expect(buttons.first).to_have_attribute("aria-pressed", "true")
    expect(card.get_by_role("img", name=re.compile(re.escape(told[0]["label"])))).to_be_visible()

    # The brightest place of the picture is where the strongest cell lies.
    brightest = """canvas => {
        const {data, width} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let best = 3;
        for (let index = 3; index < data.length; index += 4) if (data[index] > data[best]) best = index;
        return [Math.floor((best >> 2) / width) / width, ((best >> 2) % width) / width, data[best]];
    }"""
    for entry in told[:2]:
        card.locator(f'.classes button[data-class="{entry["index"]}"]').click()
        expect(card.locator("canvas.map")).to_have_attribute("data-class", str(entry["index"]))
        row, column, alpha = card.locator("canvas.map").evaluate(brightest)
        cells = [(value, y, x) for y, line in enumerate(entry["map"]) for x, value in enumerate(line)]
        _, y, x = max(cells)
        assert abs(row * 7 - 0.5 - y) < 1
        assert abs(column * 7 - 0.5 - x) < 1
        assert alpha > 240
    expect(buttons.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(buttons.first).to_have_attribute("aria-pressed", "false")


def test_one_slider_for_all_maps(visit: Visit) -> None:
    visit.add(pictures.picture(6), pictures.picture(7))
    visit.page.locator("#opacity").fill("25")
    expect(visit.page.locator("#opacity-words")).to_have_text("25 %")
    for place in range(2):
        expect(visit.page.locator("canvas.map").nth(place)).to_have_css("opacity", "0.25")


def test_more_classes_and_a_map_that_is_asked_for(visit: Visit, served: ServerProcess, photos: list[File]) -> None:
    photo = photos[1]
    visit.add(photo)
    card = visit.card(photo.name)
    card.get_by_role("button", name="More classes").click()
    told = httpx.post(f"{served.url}/classify?top_k=20", content=photo.data).json()["results"][0]["predictions"]
    buttons = card.locator(".classes button")
    expect(buttons).to_have_count(20)
    assert buttons.locator(".label").all_inner_texts() == [entry["label"] for entry in told]
    expect(buttons.nth(5)).to_be_focused()
    wanted = told[12]["index"]
    with visit.page.expect_response(f"{served.url}/explain?class={wanted}") as asked:
        buttons.nth(12).click()
    assert asked.value.status == 200
    expect(card.locator("canvas.map")).to_have_attribute("data-class", str(wanted))
    expect(card.get_by_role("img")).to_have_attribute("aria-label", re.compile(re.escape(told[12]["label"])))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_photo_stands_upright_and_its_map_lies_on_it(
    visit: Visit, served: ServerProcess, orientation: int
) -> None:
    file = pictures.turned(orientation)
    visit.expects("willReadFrequently")
    visit.add(file)
    told = httpx.post(f"{served.url}/explain", content=file.data).json()["results"][0]
    card = visit.card(file.name)
    stage, crop = card.locator(".stage").bounding_box(), card.locator(".crop").bounding_box()
    canvas = card.locator("canvas.map").bounding_box()
    assert stage is not None
    assert crop is not None
    assert crop == canvas
    scale = stage["width"] / told["photo"]["width"]
    assert stage["height"] == pytest.approx(told["photo"]["height"] * scale, abs=1)
    assert crop["x"] - stage["x"] == pytest.approx(told["crop"]["x"] * scale, abs=1)
    assert crop["y"] - stage["y"] == pytest.approx(told["crop"]["y"] * scale, abs=1)
    assert crop["width"] == pytest.approx(told["crop"]["width"] * scale, abs=1)
    assert crop["height"] == pytest.approx(told["crop"]["height"] * scale, abs=1)
    left, right = card.locator(".stage img").evaluate("""image => {
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext('2d');
        context.drawImage(image, 0, 0);
        return [0.2, 0.8].map(x => [...context.getImageData(canvas.width * x, canvas.height / 2, 1, 1).data]);
    }""")
    assert left[0] > 150 > left[2]
    assert right[2] > 150 > right[0]
    expect(card.locator(".remarks li")).to_have_count(1)
    expect(card.locator(".remarks")).to_contain_text("turned upright")


def test_files_the_browser_cannot_show(visit: Visit) -> None:
    tiff = pictures.encoded(pictures.drawn(8), "scan.tif")
    visit.add(tiff, pictures.animated())
    expect(visit.card("scan.tif")).to_have_attribute("data-state", "answered")
    expect(visit.card("scan.tif").locator(".classes button")).to_have_count(5)
    expect(visit.card("scan.tif").locator(".facts")).to_contain_text("480 × 360")
    expect(visit.card("moving.gif").locator(".remarks")).to_contain_text("only the first was looked at")


def test_an_error_stands_beside_its_photo(visit: Visit) -> None:
    visit.expects("415|422")
    broken = pictures.picture(9)
    broken = File("broken.jpg", broken.kind, broken.data[: len(broken.data) // 2])
    visit.add(pictures.picture(10), pictures.TEXT, broken, pictures.picture(11))
    error = visit.card("notes.txt").locator(".error")
    expect(error).to_contain_text("Unsupported image format")
    expect(error).to_contain_text("Not a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF image")
    expect(error.get_by_role("button")).to_have_count(0)
    expect(visit.card("broken.jpg").locator(".error")).to_contain_text("Unprocessable image")
    expect(visit.page.locator('.card[data-state="answered"]')).to_have_count(2)


def test_times_are_a_bar_with_a_legend(visit: Visit) -> None:
    visit.add(pictures.picture(12))
    timing = visit.page.locator(".timing")
    expect(timing.locator(".timing-bar span")).to_have_count(5)
    assert [text.split()[0] for text in timing.locator("li").all_inner_texts()] == [
        "read", "decode", "wait", "network", "answer",
    ]  # fmt: skip
    expect(timing).to_contain_text("ms in the service")


def test_shrunk_before_upload(visit: Visit) -> None:
    large = pictures.picture(13, width=2400, height=1600)
    visit.page.get_by_label("Shrink before upload").check()
    with visit.page.expect_response("**/explain?*") as asked:
        visit.add(large)
    size = int(asked.value.request.all_headers()["content-length"])
    expect(visit.page.locator(".facts")).to_contain_text("shrunk to 768 × 512")
    expect(visit.page.locator(".facts")).to_contain_text("2400 × 1600")
    assert 0 < size < len(large.data)


def test_pictures_on_the_page_are_small(visit: Visit) -> None:
    files = [pictures.picture(seed, width=4000, height=3000) for seed in range(20, 24)]
    visit.add(*files)
    sides = visit.page.locator(".stage img").evaluate_all("all => all.map(i => [i.naturalWidth, i.naturalHeight])")
    assert sides == [[640, 480]] * len(files)


def test_removed_one_by_one_and_all(visit: Visit) -> None:
    visit.add(pictures.picture(30), pictures.picture(31), pictures.picture(32))
    visit.page.get_by_role("button", name="Remove drawn-31.jpg").click()
    expect(visit.page.locator(".card")).to_have_count(2)
    expect(visit.page.get_by_role("button", name="Remove drawn-32.jpg")).to_be_focused()
    visit.page.get_by_role("button", name="Remove all").click()
    expect(visit.page.locator("#photos")).to_be_hidden()
    expect(visit.page.locator("#board")).to_be_hidden()
