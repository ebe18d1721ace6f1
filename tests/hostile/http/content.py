"""Abuse of what HTTP carries: forms, parameters, headers that are read, addresses of images."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.http.case import Case, case
from tests.hostile.http.wire import post
from tests.running import png

DISPOSITION = 'Content-Disposition: form-data; name="file"; filename="a.png"'


def part(content: bytes, *headers: str, boundary: str = "x") -> bytes:
    lines = "".join(f"{line}\r\n" for line in (f"--{boundary}", *(headers or (DISPOSITION,))))
    return lines.encode("latin-1") + b"\r\n" + content + b"\r\n"


def form(*parts: bytes, boundary: str = "x", content_type: str = "multipart/form-data; boundary={}") -> bytes:
    body = b"".join(parts) + f"--{boundary}--\r\n".encode("latin-1")
    return post(body, "Content-Type: " + content_type.format(boundary))


def named(disposition: str) -> str:
    return f"Content-Disposition: form-data; {disposition}"


def forms() -> Iterator[Case]:
    image = png(1)
    multipart = "Content-Type: multipart/form-data; boundary=x"
    yield case("form: good", form(part(image)), 200)
    yield case("form: a thousand images", form(*[part(b"x")] * 1000), 400)
    yield case("form: a thousand other parts", form(*[part(b"x", named('name="other"'))] * 1000), 400)
    yield case("form: a thousand parts without a header", form(*[b"--x\r\n\r\nx\r\n"] * 1000), 400)
    yield case(
        "form: nested",
        form(part(part(image, boundary="y") + b"--y--\r\n", DISPOSITION, "Content-Type: multipart/mixed; boundary=y")),
        415,
    )
    yield case("form: nested with the same boundary", form(part(form(part(image)))), 200, 400, 415)
    yield case("form: a form of another kind", form(part(image), content_type="multipart/mixed; boundary={}"), 400)
    yield case("form: no boundary named", form(part(image), content_type="multipart/form-data"), 400)
    yield case("form: an empty boundary", form(part(image), content_type='multipart/form-data; boundary=""'), 400)
    yield case("form: another boundary", form(part(image), content_type="multipart/form-data; boundary=y"), 400)
    yield case("form: a boundary of 70", form(part(image, boundary="b" * 70), boundary="b" * 70), 200)
    yield case("form: a boundary of 71", form(part(image, boundary="b" * 71), boundary="b" * 71), 400)
    yield case(
        "form: a boundary of 10,000",
        form(part(image), content_type="multipart/form-data; boundary=" + "b" * 10_000),
        400,
    )
    yield case("form: a boundary not ASCII", form(part(image, boundary="\xe9"), boundary="\xe9"), 200, 400)
    yield case(
        "form: two boundaries", form(part(image), content_type="multipart/form-data; boundary=y; boundary={}"), 200, 400
    )
    yield case(
        "form: a numbered parameter",
        form(part(image), content_type="multipart/form-data; boundary*" + "9" * 9000 + "=x"),
        400,
    )
    yield case("form: 5,000 parameters", form(part(image), content_type="multipart/form-data" + ";a=b" * 3500), 400)
    yield case(
        "form: quotes that never end", form(part(image), content_type='multipart/form-data; boundary="x'), 200, 400
    )
    yield case("form: no last boundary", post(part(image), multipart), 400)
    yield case("form: nothing", post(b"", multipart), 400)
    yield case("form: the last boundary alone", post(b"--x--\r\n", multipart), 400)
    yield case("form: no boundary in the body", post(image, multipart), 400)
    yield case(
        "form: text before and after", post(b"\r\nhello\r\n" + part(image) + b"--x--\r\nbye", multipart), 200, 400
    )
    yield case("form: bare line feeds", post(part(image).replace(b"\r\n", b"\n") + b"--x--\n", multipart), 400)
    yield case("form: an empty image", form(part(b"")), 422)
    yield case("form: near boundaries", form(part(b"\r\n--y\r\n--" * 20_000)), 415)
    yield case("form: boundaries with something behind", form(part(b"\r\n--xy" * 40_000)), 400, 415)
    yield case("form: 5 KB of part header", form(part(image, DISPOSITION, "X-Long: " + "a" * 5000)), 400)
    yield case("form: 500 part headers", form(part(image, DISPOSITION, *["A: b"] * 500)), 400)
    yield case("form: a part header without a colon", form(part(image, "nonsense")), 400)
    yield case("form: no name", form(part(image, "Content-Disposition: form-data")), 400)
    yield case("form: two names", form(part(image, named('name="other"; name="file"'))), 200, 400)
    yield case("form: a name in capitals", form(part(image, named('name="FILE"'))), 400)
    yield case("form: an extended name", form(part(image, named("name*=utf-8''file"))), 400)
    for name in (
        "a\x01b\x1b[31m",
        "../../etc/passwd",
        "C:\\\\windows\\\\x",
        "\xff\xfe",
        "a" * 3000,
        "%00",
        "",
        "a\0b",
        "\x7f",
        "'; --",
    ):
        yield case(
            f"form: a file called {name[:20]!r}", form(part(image, named(f'name="file"; filename="{name}"'))), 200
        )
    yield case(
        "form: encoded in base64", form(part(b"aGVsbG8=", DISPOSITION, "Content-Transfer-Encoding: base64")), 415
    )
    yield case(
        "form: of a URL-encoded kind",
        post(b"file=abc&url=http://x", "Content-Type: application/x-www-form-urlencoded"),
        415,
    )


def parameters() -> Iterator[Case]:
    image = png(1)
    for query in (
        "top_k=0",
        "top_k=-1",
        "top_k=1e3",
        "top_k=" + "9" * 5000,
        "top_k=%00",
        "top_k=%D9%A1",
        "top_k=",
        "top_k=1%0a",
    ):
        yield case(f"query: {query[:30]}", post(image, path=f"/classify?{query}"), 422)
    for query in ("normalize=2", "normalize=", "normalize=%ff", "normalize=truetrue"):
        yield case(f"query: {query}", post(image, path=f"/embed?{query}"), 422)
    for query in (
        "",
        "&&&&",
        "=",
        "top_k[]=1",
        "%",
        "%zz=%zz",
        "top_k=1;top_k=2&top_k=3",
        "a=b&" * 3000,
        "?" * 100,
        "top_k=99&top_k=1",
    ):
        yield case(f"query: {query[:30]!r}", post(image, path=f"/classify?{query}"), 200)
    for value in ("0", "-1", "1e9", "9" * 5000, "\xb2", "", "NaN", "1, 2"):
        yield case(f"timeout: {value[:20]!r}", post(image, f"X-Request-Timeout-Ms: {value}"), 422)
    for value in (
        "*/*;q=nan",
        "application/x-npy;q=1e999",
        "," * 5000,
        ";;;",
        "application/x-npy;q=-1",
        "\xff" * 100,
        "a/b;" * 3000,
    ):
        yield case(f"accept: {value[:30]!r}", post(image, f"Accept: {value}", path="/embed"), 200)


def addresses_of_images() -> Iterator[Case]:
    """Nothing is ever fetched; that no connection is made is ``test_nothing_is_fetched``'s matter."""
    for url in (
        "http://127.0.0.1:1/cat.jpg",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:image/png;base64,AAAA",
        "gopher://x",
    ):
        yield case(f"address: {url}, the body", post(url.encode(), "Content-Type: text/uri-list"), 415)
        yield case(
            f"address: {url}, in JSON", post(b'{"url": "%b"}' % url.encode(), "Content-Type: application/json"), 415
        )
        yield case(f"address: {url}, a field", form(part(url.encode(), named('name="url"'))), 400)
        yield case(f"address: {url}, a file", form(part(url.encode(), DISPOSITION, f"Content-Location: {url}")), 415)
        yield case(f"address: {url}, a parameter", post(b"", path=f"/classify?url={url}"), 400)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:1/x"/></svg>'
    yield case("address: in an SVG", post(svg, "Content-Type: image/svg+xml"), 415)
    dtd = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
    yield case("address: an XML entity", post(dtd, "Content-Type: application/xml"), 415)


def content() -> list[Case]:
    return [*forms(), *parameters(), *addresses_of_images()]
