"""A server process with keys: they appear nowhere. And nothing that a client names is fetched."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.e2e.process import server
from tests.hostile.http.case import leaks
from tests.hostile.http.conftest import changed
from tests.hostile.http.content import DISPOSITION, FORM, form, named, part
from tests.hostile.http.wire import Address, chunk, get, post, wire
from tests.running import png

ENVIRONMENT_KEY = "Zq7-of-the-environment"
FILE_KEY = "Kx9-of-the-file"
WRONG_KEY = "Wv5-of-somebody-else"
KEYS = (ENVIRONMENT_KEY, FILE_KEY, WRONG_KEY)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_key_in_any_log_line_or_answer(tiny: list[str], tmp_path: Path, log_format: str) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(f"{FILE_KEY}\n")
    arguments = ("--api-keys-file", str(key_file), "--log-level", "debug", "--log-format", log_format)
    with server(*tiny, *arguments, environment={"MOBILENET_API_KEYS": ENVIRONMENT_KEY}) as running:
        statuses = []
        for key in KEYS:
            for lines in (
                (f"Authorization: Bearer {key}",),
                (f"X-API-Key: {key}",),
                (f"Authorization: {key}",),
                (f"X-API-Key: {key}", FORM),
                (f"X-API-Key: {key}", "Content-Length: 5"),  # twice: no HTTP any more
                (f"X-API-Key: {key}", "X-Name: a\0b"),
                (f"X-API-Key: {key}", "X-Name: " + "a" * 17_000),
                (f"X-API-Key: {key}\x01",),
            ):
                statuses.append(status(running.address, post(png(1), *lines)))
            statuses.append(status(running.address, get(f"/models?key={key}")))
        assert running.terminate() == 0
    assert {200, 400, 401, 431} <= set(statuses)
    assert "status=401" in running.output or '"status": 401' in running.output
    assert [key for key in KEYS if key in running.output] == []


def status(address: Address, request: bytes) -> int:
    with wire(address) as connection:
        answer = connection.ask(request)
    assert list(leaks(answer)) == []
    assert [key for key in KEYS if key in f"{answer.headers}{answer.body!r}"] == []
    return answer.status


def test_a_key_in_a_trailer_is_no_key(tiny: list[str]) -> None:
    with server(*tiny, environment={"MOBILENET_API_KEYS": ENVIRONMENT_KEY}) as running:
        body = chunk(png(1)) + f"0\r\nX-API-Key: {ENVIRONMENT_KEY}\r\n\r\n".encode()
        assert status(running.address, get("/classify", "Transfer-Encoding: chunked", method="POST") + body) == 401


@pytest.mark.parametrize("environment", [{"MOBILENET_API_KEYS": f"{ENVIRONMENT_KEY} {FILE_KEY}"}, {}])
def test_no_key_in_the_message_about_a_bad_one(tiny: list[str], tmp_path: Path, environment: dict[str, str]) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(f"{FILE_KEY} {ENVIRONMENT_KEY}\n")
    arguments = () if environment else ("--api-keys-file", str(key_file))
    with server(*tiny, *arguments, environment=environment) as running:
        assert running.wait() == 1
    assert running.output.startswith("error: ")
    assert len(running.lines) == 1
    assert [key for key in KEYS if key in running.output] == []


#: Reports what the process does to reach others, whichever library does it.
WATCHED = """
def watch(event, given):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "urllib.Request"):
        print("fetched:", event, given, flush=True)

sys.addaudithook(watch)
"""


def test_nothing_is_fetched(tiny: list[str]) -> None:
    with server(*tiny, program=changed(WATCHED)) as watched, socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/cat.jpg"
        svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'
        requests = {
            post(svg.encode(), "Content-Type: image/svg+xml"): 415,
            post(png(1), f"Referer: {url}", f"X-Forwarded-Host: {url}", f"Link: <{url}>", path="/embed"): 200,
            get(url.replace("cat.jpg", "livez")): 200,
            get("/models", f"Host: {url}", f"Callback: {url}"): 200,
        }
        for other in (url, "file:///etc/passwd", "ftp://127.0.0.1/x", "data:image/png;base64,AAAA", "gopher://x"):
            dtd = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "{other}">]><a>&b;</a>'
            requests |= {
                post(dtd.encode(), "Content-Type: application/xml"): 415,
                post(other.encode()): 415,
                post(other.encode(), "Content-Type: text/uri-list"): 415,
                post(f'{{"url": "{other}"}}'.encode(), "Content-Type: application/json"): 415,
                form(part(other.encode(), named('name="url"'))): 400,
                form(part(other.encode(), DISPOSITION, f"Content-Location: {other}")): 415,
                form(part(other.encode(), named(f'name="file"; filename="{other}"'))): 415,
                post(b"", path=f"/classify?url={other}"): 400,
            }
        for request, expected in requests.items():
            assert status(watched.address, request) == expected
        assert watched.terminate() == 0
        with pytest.raises(BlockingIOError):
            trap.accept()
    # Beside that: whether a socket in the operator's directory is a dead service's, and may be removed.
    lines = [line for line in watched.lines if "/mobilenet-service/" not in line]
    reached = [line for line in lines if line.startswith("fetched:")]
    assert reached == ["fetched: socket.getaddrinfo ('127.0.0.1', 0, 0, 1, 0)\n"], "for its own listener, and no other"
