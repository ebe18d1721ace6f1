"""Warnings: what was not understood is named in the answer, and each form of the answer tells how many there are."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.image.samples import encode, exif, noise
from tests.running import RunningApp, png

TURNED = encode(noise(40, 30), "PNG", exif=exif(6))
OF_TURNED = "EXIF orientation 6 applied"
VALID = "the parameters of this path are"
IGNORED = f"unknown parameters were ignored; {VALID} "


def headers_of(answer: httpx.Response) -> tuple[str, str | None]:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-warning-count"], answer.headers.get("x-warning")


@pytest.mark.parametrize(
    ("target", "warning"),
    [
        ("/classify?topk=1", "the unknown parameter 'topk' was ignored; did you mean 'top_k'?"),
        ("/classify?TOP_K=1", "the unknown parameter 'TOP_K' was ignored; did you mean 'top_k'?"),
        ("/embed?normalise=0", "the unknown parameter 'normalise' was ignored; did you mean 'normalize'?"),
        ("/explain?classes=1", "the unknown parameter 'classes' was ignored; did you mean 'class'?"),
        (
            "/explain?x=1",
            f"the unknown parameter 'x' was ignored; {VALID} alias, class, embedding, opacity, top_k, version",
        ),
        (
            "/embed?top_k=1",
            f"the unknown parameter 'top_k' was ignored; {VALID} alias, normalize, version",
        ),
        (
            "/classify?%22%0d%0aX-Evil:%20%C3%A9%F0%9F%98%80",
            r"""the unknown parameter '"\r\nX-Evil: \xe9\U0001f600' was ignored; """
            "the parameters of this path are alias, top_k, version",
        ),
        (
            "/classify?" + "z" * 9000,
            f"the unknown parameter '{'z' * 32}'... was ignored; the parameters of this path are alias, top_k, version",
        ),
    ],
)
def test_an_unknown_parameter_is_named_with_the_most_similar_one(app: RunningApp, target: str, warning: str) -> None:
    answer = app.client.post(target, content=png(1))
    assert answer.json()["warnings"] == [warning]
    count, first = headers_of(answer)
    assert (count, first) == ("1", IGNORED + (first or "").removeprefix(IGNORED))


def test_unknown_fields_of_a_form_are_named_too(app: RunningApp) -> None:
    sent: dict[str, Any] = {"files": [("file", ("a.png", png(1)))], "data": {"topk": "1", "nörmalize": "0"}}
    answer = app.client.post("/classify?topk=2&top_k=2", **sent)
    assert sorted(answer.json()["warnings"]) == [
        "the unknown parameter 'n\\xf6rmalize' was ignored; the parameters of this path are alias, top_k, version",
        "the unknown parameter 'topk' was ignored; did you mean 'top_k'?",
    ]
    assert len(answer.json()["results"][0]["predictions"]) == 2


def test_of_many_unknown_parameters_a_few_are_named(app: RunningApp) -> None:
    answer = app.client.post("/classify?" + "&".join(f"a{number}" for number in range(1000)), content=png(1))
    *named, rest = answer.json()["warnings"]
    assert len(named) == 4
    assert rest == "996 more unknown parameters were ignored; the parameters of this path are alias, top_k, version"
    assert headers_of(answer)[0] == "5"


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/classify", "*/*"),
        ("/embed", "*/*"),
        ("/embed", "application/octet-stream"),
        ("/embed", "application/x-npy"),
        ("/explain", "*/*"),
        ("/explain", "image/png"),
    ],
)
def test_every_form_of_the_answer_has_their_number_and_the_first(app: RunningApp, path: str, accept: str) -> None:
    def ask(content: bytes, query: str = "") -> tuple[str, str | None]:
        return headers_of(app.client.post(path + query, content=content, headers={"Accept": accept}))

    assert ask(png(1)) == ("0", None)
    assert ask(TURNED) == ("1", OF_TURNED)
    count, first = ask(TURNED, "?s%0d%0aecret")
    assert (count, first) == ("2", IGNORED + (first or "").removeprefix(IGNORED))
    assert "ecret" not in (first or "")


def test_the_number_is_of_all_images_and_a_bad_one_has_none(app: RunningApp) -> None:
    files = [("file", ("a.png", content)) for content in (png(1), TURNED, b"no image", TURNED)]
    answer = app.client.post("/classify", files=files)
    assert headers_of(answer) == ("2", OF_TURNED)
    assert [result.get("warnings") for result in answer.json()["results"]] == [[], [OF_TURNED], None, [OF_TURNED]]
    refused = app.client.post("/classify?x=1", content=b"no image")
    assert (refused.status_code, "x-warning-count" in refused.headers) == (415, False)
