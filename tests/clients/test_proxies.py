"""The service behind nginx and HAProxy, below a prefix: answers, and whom it takes for the client."""

from __future__ import annotations

import json
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import pytest

from tests.browser.pictures import picture
from tests.clients.conftest import Proxied
from tests.waiting import until

pytestmark = pytest.mark.client


def test_photos_are_classified_below_the_prefix(proxied: Proxied) -> None:
    photo = picture(1).data
    with httpx.Client(base_url=proxied.url, timeout=60) as client:
        raw = client.post("classify", content=photo)
        form = client.post("classify", files=[("file", ("one.jpg", photo)), ("file", ("two.jpg", photo))])
        wrong = client.post("classify", content=b"no photo")
        outside = client.post(urljoin(proxied.url, "/classify"), content=photo)
    assert raw.status_code == form.status_code == 200, f"{raw.text} {form.text}"
    assert len(form.json()["results"]) == 2
    assert (wrong.status_code, wrong.headers["content-type"]) == (415, "application/problem+json")
    assert "x-request-id" not in outside.headers  # it is the proxy's


@pytest.mark.parametrize(
    "spoofed",
    [{}, {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "127.0.0.1"}],
    ids=["honest", "a-stranger", "the-proxy"],
)
def test_the_access_log_names_the_client_that_the_proxy_saw(proxied: Proxied, spoofed: dict[str, str]) -> None:
    # 127.0.0.1 is the proxy's address, and what it passes on under that is believed: the client needs another.
    headers = {"X-Request-Id": uuid4().hex, **spoofed}
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), base_url=proxied.url) as client:
        assert client.get("models", headers=headers).status_code == 200

    def logged() -> list[str]:
        records = [json.loads(line) for line in proxied.service.lines if line.startswith("{")]
        return [record["client"] for record in records if record.get("request_id") == headers["X-Request-Id"]]

    until(lambda: bool(logged()), timeout=60, what="the request is logged")
    assert logged() == ["127.0.0.2"]
