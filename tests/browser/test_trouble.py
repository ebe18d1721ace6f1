"""A service that is busy, gone, restarted or locked; files that are too large; and the status strip that shows it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Request, Route, expect

from service.model.artifact import Artifact
from tests.browser import pictures
from tests.browser.conftest import NewVisit
from tests.browser.visit import Visit
from tests.e2e.process import ServerProcess, server
from tests.scrape import samples

_BUSY = '{"type":"about:blank","status":503,"title":"Overloaded","detail":"no room"}'
_FAILED = '{"type":"about:blank","status":500,"title":"Inference failed","detail":"the model failed on this image"}'


def counted(url: str, sample: str) -> float:
    return samples(httpx.get(f"{url}/metrics").text).get(sample, 0.0)


def test_the_strip_says_what_is_served(visit: Visit) -> None:
    expect(visit.page.locator("#model")).to_have_text("mobilenet_v2, version 1")
    expect(visit.page.locator("#runtime")).to_have_text("OpenVINO on CPU, fp32")
    expect(visit.page.locator("#flight")).to_have_text(re.compile(r"^\d+ of \d+$"))
    expect(visit.page.locator("#queue")).to_have_text("0")
    expect(visit.page.locator("#banner")).to_be_empty()


def test_the_strip_names_further_versions_and_models_when_they_come(visit: Visit) -> None:
    expect(visit.page.locator("#others")).to_be_empty()

    def more(route: Route) -> None:
        answer = route.fetch()
        (card,) = answer.json()["models"]
        others = [
            card | {"version": "2", "aliases": ["canary"]},
            card | {"version": "3", "aliases": ["shadow"]},
            card | {"version": "0", "aliases": []},  # kept for a rollback
            card | {"name": "pets", "version": "4", "aliases": ["stable"]},
        ]
        route.fulfill(response=answer, json={"models": [card, *others]})

    visit.page.route("**/models", more)
    expect(visit.page.locator("#others")).to_have_text("canary: version 2; shadow: version 3; pets, version 4")
    expect(visit.page.locator("#model")).to_have_text("mobilenet_v2, version 1")


def test_fifty_requests(visit: Visit, served: ServerProcess) -> None:
    sample = 'mobilenet_requests_total{code="200",endpoint="classify"}'
    before = counted(served.url, sample)
    visit.page.get_by_role("button", name="Send 50 requests").click()
    words = visit.page.locator("#burst-words")
    expect(words).to_have_text(
        re.compile(r"^50 answered, 0 refused in [\d.]+ s; [\d.]+ ms each in the service, .* images per batch\.$"),
        timeout=20_000,
    )
    assert counted(served.url, sample) == before + 50
    expect(visit.page.locator("#history")).to_have_attribute("aria-label", re.compile(r"at most [1-9]\d*$"))
    expect(visit.page.locator("#batch")).to_have_text(re.compile(r"^\d+\.\d of \d+$"))


def test_a_busy_service_is_asked_again(visit: Visit) -> None:
    visit.expects("503")
    asked: list[Request] = []

    def busy(route: Route, request: Request) -> None:
        asked.append(request)
        if len(asked) > 2:
            route.continue_()
            return
        headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
        route.fulfill(status=503, headers=headers, body=_BUSY)

    visit.page.route("**/explain?*", busy)
    visit.choose(pictures.picture(1))
    expect(visit.page.locator(".words")).to_contain_text("The service is busy. Tries again in 1 second")
    visit.settled(1)
    expect(visit.page.locator(".card")).to_have_attribute("data-state", "answered")
    assert len(asked) == 3


def test_refused_requests_are_counted(visit: Visit) -> None:
    visit.expects("503")
    visit.page.route("**/classify?*", lambda route: route.fulfill(status=503, body=_BUSY))
    visit.page.get_by_role("button", name="Send 50 requests").click()
    expect(visit.page.locator("#burst-words")).to_contain_text("0 answered, 50 refused in")


def test_what_may_help_is_offered_again_and_counts_once(visit: Visit) -> None:
    visit.expects("500")
    visit.page.route("**/explain?*", lambda route: route.fulfill(status=500, body=_FAILED))
    visit.add(pictures.picture(2), pictures.picture(3))
    card = visit.card("drawn-2.jpg")
    expect(card.locator(".error")).to_contain_text("Inference failed")
    expect(card.locator(".error")).to_contain_text("The model failed on this image.")
    visit.page.unroute("**/explain?*")
    card.get_by_role("button", name="Try again").click()
    expect(card).to_have_attribute("data-state", "answered")
    visit.page.wait_for_timeout(2500)  # what is said is said two seconds later
    expect(visit.page.locator("#say")).to_have_text("2 of 2 photos answered")


def test_down_and_back(new_visit: NewVisit, real_artifact: Artifact) -> None:
    with server("--no-access-log") as first:
        visit = new_visit(first.url)
        visit.open()
        visit.add(pictures.picture(3))
        visit.expects("ERR_|503")
        assert first.terminate() == 0
        port = urlsplit(first.url).port
    banner = visit.page.locator("#banner")
    expect(banner).to_contain_text("cannot be reached. Photos wait here")
    expect(visit.page.locator("#state")).to_have_text("Cannot be reached")
    expect(visit.page.locator("#flight")).to_have_text("–")
    visit.choose(pictures.picture(4), pictures.picture(5))
    expect(visit.card("drawn-4.jpg").locator(".words")).to_have_text("Waits until the service is back")
    with server("--no-access-log", "--port", str(port)) as second:
        assert second.url == first.url
        visit.settled(3, timeout_s=30)
        expect(visit.page.locator('.card[data-state="answered"]')).to_have_count(3)
        expect(banner).to_be_empty()
        expect(visit.page.locator("#state")).to_have_text("Ready")


def test_draining_is_said(visit: Visit) -> None:
    visit.expects("503")
    visit.page.route("**/readyz", lambda route: route.fulfill(status=503, body='{"status":"draining"}'))
    visit.page.route("**/metrics", lambda route: route.fulfill(body="mobilenet_ready 0.0\n"))
    expect(visit.page.locator("#banner")).to_contain_text("The service is shutting down. Photos wait here")
    visit.page.unroute("**/metrics")
    visit.page.unroute("**/readyz")
    expect(visit.page.locator("#banner")).to_be_empty()


def test_too_large_a_file_says_so_and_can_be_shrunk(visit: Visit) -> None:
    visit.expects("413")
    visit.drop_padded(pictures.picture(8, "heavy.png", 800, 600), 17_000_000)
    visit.settled(1)
    error = visit.card("heavy.png").locator(".error")
    expect(error).to_contain_text("Body too large")
    visit.page.get_by_role("button", name="Shrink and send").click()
    expect(visit.card("heavy.png")).to_have_attribute("data-state", "answered")
    expect(visit.card("heavy.png").locator(".facts")).to_contain_text("shrunk to 683 × 512")


def test_an_upload_that_is_cut_off_ends_in_words(visit: Visit) -> None:
    visit.expects("ERR_")
    tries: list[str] = []

    def cut(route: Route, request: Request) -> None:
        tries.append(request.url)
        route.abort("connectionreset")

    visit.page.route("**/explain?*", cut)
    visit.drop_padded(pictures.picture(9, "scan.tif"), 17_000_000)
    expect(visit.page.locator(".error")).to_contain_text("it accepts 16.8 MB unless it is set up otherwise")
    assert len(tries) == 1
    visit.choose(pictures.picture(6))
    small = visit.card("drawn-6.jpg")
    expect(small.locator(".error")).to_contain_text("The connection broke off", timeout=15_000)
    assert len(tries) == 4
    visit.page.unroute("**/explain?*")
    small.get_by_role("button", name="Try again").click()
    expect(small).to_have_attribute("data-state", "answered")


def test_a_key_is_asked_for(new_visit: NewVisit, real_artifact: Artifact) -> None:
    with server("--no-access-log", "--protect-metrics", environment={"MOBILENET_API_KEYS": "alpha"}) as locked:
        visit = new_visit(locked.url)
        visit.expects("401")
        visit.open()
        key = visit.page.get_by_label("API key")
        expect(key).to_be_focused()
        visit.choose(pictures.picture(7))
        expect(visit.page.locator(".words")).to_have_text("Waits for the API key")
        key.fill("beta")
        key.press("Enter")
        expect(visit.page.locator("#key-error")).to_have_text("The service does not accept this key.")
        key.fill("alpha")
        visit.page.get_by_role("button", name="Use this key").click()
        visit.settled(1)
        expect(visit.page.locator("#key-form")).to_be_hidden()
        expect(visit.page.locator("#model")).to_have_text("mobilenet_v2, version 1")
        expect(visit.page.locator("#queue")).to_have_text("0")
