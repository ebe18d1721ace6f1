"""The page at ``/`` as HTTP sees it: its files and no others, its policy, caching, keys, and the switch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.http import overlay, page
from service.model.artifact import Artifact
from tests.hostile.http.wire import get, wire
from tests.running import RunningApp, png, running_app

STATIC = Path(page.__file__).parent / "static"
FILES = sorted(path.name for path in STATIC.iterdir())
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def test_every_file_is_served_and_every_path_is_a_file() -> None:
    assert {path.removeprefix("/page/") for path in page.PATHS} - {"/"} == set(FILES) - {"index.html"}


@pytest.mark.parametrize("name", [name for name in FILES if name != "index.html"])
def test_a_file_has_its_type_and_is_sent_once(app: RunningApp, name: str) -> None:
    first = app.client.get(f"/page/{name}")
    assert first.status_code == 200
    assert first.content == (STATIC / name).read_bytes()
    assert first.headers["content-type"].partition(";")[0] == TYPES[Path(name).suffix]
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["x-content-type-options"] == "nosniff"
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = app.client.get(f"/page/{name}", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert app.client.get(f"/page/{name}", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page", "/page/", "/page/index.html", "/page/__init__.py", "/page/../__init__.py", "/page/%2e%2e/app.js"]
)
def test_nothing_else_is_served(app: RunningApp, path: str) -> None:
    with wire(app.address) as connection:
        connection.send(get(path))
        answer = connection.answer()
    assert answer is not None
    assert answer.status == 404


def test_the_page_may_load_its_own_files_only(app: RunningApp) -> None:
    answer = app.client.get("/")
    (policy,) = answer.headers.get_list("content-security-policy")
    directives = {name: values for name, *values in (part.split() for part in policy.split(";"))}
    assert directives == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "connect-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }
    assert answer.headers.get_list("referrer-policy") == ["no-referrer"]
    assert answer.headers.get_list("cache-control") == ["no-cache"]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_addresses_are_relative_and_lead_somewhere(app: RunningApp) -> None:
    text = app.client.get("/").text
    addresses = set(re.findall(r'(?:src|href)="([^"#]+)"', text))
    assert {"page/app.js", "page/base.css", "page/icon.svg", "docs"} <= addresses
    for address in addresses:
        assert not re.match(r"\w+:|/", address), address
        assert app.client.get(f"/{address}").status_code == 200
    preloaded = set(re.findall(r'modulepreload" href="page/(\S+)"', text))
    assert preloaded == {name for name in FILES if name.endswith(".js")} - {"app.js"}


def test_nothing_in_it_runs_or_styles_inline() -> None:
    text = (STATIC / "index.html").read_text("utf-8")
    assert re.findall(r"\son\w+=|javascript:|\sstyle=|<style|<script(?! type=\"module\" src=)", text) == []
    for path in STATIC.glob("*.js"):
        code = path.read_text("utf-8")
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", code) == []
        assert re.findall(r"https?://|localStorage|sessionStorage|document\.cookie", code) == [], path.name
        assert re.findall(r"\b(?:post|get|getJson|fetch|extra|ask)\([\"'`]/", code) == [], f"{path.name}: not relative"
        assert code.startswith("//"), f"{path.name}: what it is for comes first"
        assert len(code.splitlines()) <= 300, path.name


def test_modules_import_what_is_there() -> None:
    texts = {path.name: path.read_text("utf-8") for path in STATIC.glob("*.js")}
    for text in texts.values():
        for names, source in re.findall(r'^import \{ ([^}]+) \} from "\./([\w.]+)";', text, re.MULTILINE):
            exported = re.findall(r"^export (?:async )?(?:function|class|const) (\w+)\b", texts[source], re.MULTILINE)
            assert set(names.split(", ")) <= set(exported), source


def test_the_page_draws_as_the_service_does() -> None:
    """Colours and opacities of ``overlay.py``, of the maps, of the ramp beside the slider and of the style sheets."""
    texts = {name: (STATIC / name).read_text("utf-8") for name in ("map.js", "parts.css", "card.css", "index.html")}

    def only(pattern: str, name: str) -> str:
        (found,) = re.findall(pattern, texts[name], re.DOTALL)
        return str(found)

    stops = only(r"const STOPS = \[(.*?)\];", "map.js")
    drawn = [tuple(int(part, 16) for part in parts) for parts in re.findall(r"\[0x(..), 0x(..), 0x(..)\]", stops)]
    assert drawn == list(overlay._RAMP)
    gradient = only(r"\.ramp-bar \{[^}]*linear-gradient\(to right, ([^)]*)\)", "parts.css")
    assert [tuple(bytes.fromhex(colour.removeprefix("#"))) for colour in gradient.split(", ")] == list(overlay._RAMP)
    shade = only(r"\.crop \{[^}]*rgb\(0 0 0 / (\d+)%\)", "card.css")
    assert 100 - int(shade) == pytest.approx(100 * overlay._DIMMED)
    slider = only(r'<input id="opacity"[^>]* value="(\d+)"', "index.html")
    assert int(slider) == pytest.approx(100 * overlay.DEFAULT_OPACITY)


def test_it_is_light() -> None:
    assert sum((STATIC / name).stat().st_size for name in FILES) < 150_000


def test_it_needs_no_key_and_opens_nothing(artifact: Artifact) -> None:
    with running_app(artifact, api_keys="alpha", protect_metrics=True) as keyed:
        for path in page.PATHS:
            assert keyed.client.get(path).status_code == 200
        for path in ("/models", "/metrics", "/page", "/page/", "/page/x.js", "/page/../models"):
            assert keyed.client.get(path).status_code == 401
        assert keyed.client.post("/classify", content=png(1)).status_code == 401


def test_without_docs_it_does_not_lead_there(artifact: Artifact) -> None:
    with running_app(artifact, docs=False) as app:
        assert 'href="docs"' not in app.client.get("/").text
        assert app.client.get("/docs").status_code == 404


def test_it_can_be_switched_off(artifact: Artifact) -> None:
    with running_app(artifact, page=False) as app:
        answer = app.client.get("/")
        assert (answer.status_code, answer.headers["location"]) == (307, "docs")
        assert app.client.get("/page/app.js").status_code == 404
    with running_app(artifact, page=False, docs=False, api_keys="alpha") as app:
        assert app.client.get("/").status_code == 404
        assert app.client.get("/page/app.js").status_code == 401
