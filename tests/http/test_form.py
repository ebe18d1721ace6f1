"""What a part of a form is: an image, a parameter, or an error that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from service.http.endpoints import INFERENCE_PATHS
from tests.running import RunningApp, detail, png

TYPE = {"Content-Type": "multipart/form-data; boundary=x"}


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    lines = "\r\n".join(("--x", f"Content-Disposition: form-data; {disposition}", *headers, "", ""))
    return lines.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


GOOD = part('name="file"; filename="a.png"', png(1))


def classified(app: RunningApp, *parts: bytes, query: str = "", path: str = "/classify") -> dict[str, Any]:
    answer = app.client.post(f"{path}?{query}", content=form(*parts), headers=TYPE)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(
    ("disposition", "headers"),
    [
        ('name="file"', []),
        ('name="image"; filename="b.png"', []),
        ('name="files[]"; filename="b.png"', ["Content-Type: application/octet-stream"]),
        ('filename="b.png"', []),
        ('name="photo"; filename=""', []),
        ("name=\"photo\"; filename*=utf-8''%C3%A4.png", []),
        ('name="top_k"; FILENAME="b.png"', []),
        ('name="photo"', ["content-type:  IMAGE/PNG"]),
    ],
)
def test_a_file_an_image_type_or_the_name_file_makes_a_part_an_image(
    app: RunningApp, disposition: str, headers: list[str]
) -> None:
    body = classified(app, GOOD, part(disposition, png(2), *headers))
    assert [result["predictions"][0]["index"] for result in body["results"]] == [1, 2]
    assert "warnings" not in body


def test_a_file_field_in_which_nothing_was_chosen_is_no_image(app: RunningApp) -> None:
    empty = part('name="second"; filename=""', b"", "Content-Type: application/octet-stream")
    body = classified(app, GOOD, empty)
    assert (len(body["results"]), set(body)) == (1, {"model", "version", "results"})
    drawn = app.client.post("/explain", content=form(GOOD, empty), headers={**TYPE, "Accept": "image/png"})
    assert drawn.status_code == 200
    assert "has no image" in detail(app.client.post("/classify", content=form(empty), headers=TYPE), 400)


@pytest.mark.parametrize(
    ("parts", "query", "count"),
    [
        ([("top_k", "3")], "", 3),
        ([("top_k", "3")], "top_k=2", 2),
        ([("top_k", "many")], "top_k=2", 2),
        ([("top_k", "3"), ("top_k", "4")], "", 4),
    ],
)
def test_the_query_goes_before_the_form_and_the_last_of_a_name_before_the_first(
    app: RunningApp, parts: list[tuple[str, str]], query: str, count: int
) -> None:
    fields = [
        part(f'name="{name}"', value.encode(), "Content-Type: text/plain; charset=utf-8") for name, value in parts
    ]
    for sent in ([*fields, GOOD], [GOOD, *fields]):
        body = classified(app, *sent, query=query)
        assert (len(body["results"][0]["predictions"]), "warnings" in body) == (count, False)


def test_every_endpoint_takes_its_parameters_from_the_form(app: RunningApp) -> None:
    def field(name: str, value: str) -> bytes:
        return part(f'name="{name}"', value.encode())

    (embedded,) = classified(app, GOOD, field("normalize", "no"), path="/embed")["results"]
    assert embedded["embedding"][:3] == [1, 0, 1]
    (explained,) = classified(app, field("class", "7,3"), field("embedding", "1"), GOOD, path="/explain")["results"]
    assert ([each["index"] for each in explained["maps"]], "embedding" in explained) == ([7, 3], True)
    sent: dict[str, Any] = {
        "content": form(field("class", "9"), field("opacity", "0.5"), GOOD),
        "headers": {**TYPE, "Accept": "image/png"},
    }
    query: dict[str, Any] = {"content": form(GOOD), "headers": {**TYPE, "Accept": "image/png"}}
    assert (
        app.client.post("/explain", **sent).content
        == app.client.post("/explain?class=9&opacity=0.5", **query).content
        != app.client.post("/explain", **query).content
    )


@pytest.mark.parametrize(("path", "name"), [*zip(INFERENCE_PATHS, ("top_k", "normalize", "opacity"), strict=True)])
@pytest.mark.parametrize("accept", ["*/*", "image/png", "application/x-npy"])
def test_a_wrong_parameter_in_a_form_costs_no_inference(app: RunningApp, path: str, name: str, accept: str) -> None:
    app.runtime.batches.clear()
    sent = form(GOOD, part(f'name="{name}"', b"-1"))
    assert detail(app.client.post(path, content=sent, headers={**TYPE, "Accept": accept}), 422).startswith(f"{name}: ")
    assert app.runtime.batches == []


@pytest.mark.parametrize("name", ["version", "alias"])
def test_what_chooses_the_version_belongs_into_the_query(app: RunningApp, name: str) -> None:
    """Not ignored: the version is chosen before the form is read."""
    chooses = part(f'name="{name}"', b"9")
    answer = app.client.post("/classify", content=form(GOOD, chooses), headers=TYPE)
    assert detail(answer, 422) == f"{name}: belongs into the query, not into the form"
    good = {"version": "1", "alias": "stable"}[name]
    assert len(classified(app, GOOD, chooses, query=f"{name}={good}")["results"]) == 1  # which goes before the form


def test_class_and_top_k_exclude_each_other_wherever_they_stand(app: RunningApp) -> None:
    refused = app.client.post("/explain?class=3", content=form(GOOD, part('name="top_k"', b"2")), headers=TYPE)
    assert detail(refused, 422).startswith("class, top_k: only one")


OTHER = {"Content-Type": "application/json"}
UNNAMED = {"Content-Type": "multipart/form-data"}


@pytest.mark.parametrize(
    ("content", "headers", "said"),
    [
        (
            form(GOOD, part('name="image"', png(2))),
            TYPE,
            "the part 'image' is no image, which has a file name (curl -F file=@photo.jpg)",
        ),
        (form(GOOD, part('name="note"', b"x" * 513)), TYPE, "UTF-8 text of at most 512 bytes"),
        (form(GOOD, part('name="<\x07\xe9>"', b"\xff")), TYPE, r"the part '<\x07\xe9>' is no image"),
        (form(GOOD, part(f'name="{"n" * 3000}"', b"\xff")), TYPE, f"the part '{'n' * 32}'... is no image"),
        (
            form(part('name="file"; filename="' + "n" * 5000 + '"', png(1))),
            TYPE,
            "a part's headers, such as its file name, are over 4096 bytes",
        ),
        (form(part('name="text"', b"cat.jpg")), TYPE, "has no image: send it as a file (curl -F file=@photo.jpg)"),
        (form(), TYPE, "has no image"),
        (b"", TYPE, "the body is empty: send an image's bytes"),
        (b"", {}, "the body is empty: send an image's bytes"),
        (png(1), TYPE, "does not begin with the form boundary that Content-Type names: send an image's bytes"),
        (form(GOOD).replace(b"--x", b"--y"), TYPE, "does not begin with the form boundary"),
        (form(GOOD), UNNAMED, "Content-Type has no valid boundary: leave the header to your HTTP client"),
        (form(GOOD), OTHER, "is a multipart form, but its Content-Type is not: send multipart/form-data; boundary=…"),
        (b"\r\n" + form(GOOD), {}, "is a multipart form, but"),
        (form(GOOD.replace(b"form-data", b"attachment")), OTHER, "is a multipart form, but"),
        (form(GOOD).replace(b"\r\n", b"\n"), {"Content-Type": "image/png"}, "is a multipart form, but"),
        (form(b"--x\r\nContent-Type: image/png\r\n" + GOOD[5:]), OTHER, "is a multipart form, but"),
    ],
)
def test_what_is_no_form_of_images_is_told_what_it_is(
    app: RunningApp, content: bytes, headers: dict[str, str], said: str
) -> None:
    answer = detail(app.client.post("/classify", content=content, headers=headers), 400)
    assert said in answer
    assert answer.replace("…", "").isascii()
    assert answer.replace("…", "").isprintable()


@pytest.mark.parametrize(
    "content", [b"--x\r\n\r\nhello\r\n--x--", b"--", b"-- \n" * 50_000, b"-" * 190_000, b" " * 190_000]
)
def test_two_hyphens_do_not_make_a_form(app: RunningApp, content: bytes) -> None:
    detail(app.client.post("/classify", content=content), 415)


def test_the_number_of_parameters_is_bounded(app: RunningApp) -> None:
    def sent(count: int) -> bytes:
        kinds = [part('name="a"', b"1"), part('name="b"; filename=""', b"")]
        return form(GOOD, *(kinds[number % 2] for number in range(count)))

    assert app.client.post("/classify", content=sent(64), headers=TYPE).status_code == 200
    refused = app.client.post("/classify", content=sent(65), headers=TYPE)
    assert detail(refused, 400) == "more than 64 parts that are not images"
