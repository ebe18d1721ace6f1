"""Abuse of what HTTP carries: forms, parameters, headers that are read, addresses of images."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

from tests.hostile.http.case import Case, case
from tests.hostile.http.wire import post
from tests.running import png

FORM = "Content-Type: multipart/form-data; boundary=x"
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
    yield case("form: good", form(part(image)), 200)
    yield case("form: a thousand images", form(*[part(b"x")] * 1000), 400)
    yield case("form: a thousand other parts", form(*[part(b"x", named('name="other"'))] * 1000), 400)
    yield case("form: a thousand parts without a header", form(*[b"--x\r\n\r\nx\r\n"] * 1000), 400)
    inner = part(image, boundary="y") + b"--y--\r\n"
    yield case("form: nested", form(part(inner, DISPOSITION, "Content-Type: multipart/mixed; boundary=y")), 415)
    yield case("form: nested with the same boundary", form(part(form(part(image)))), 200, 400, 415)
    for name, content_type, statuses in (
        ("a form of another kind", "multipart/mixed; boundary={}", (400,)),
        ("no boundary named", "multipart/form-data", (400,)),
        ("an empty boundary", 'multipart/form-data; boundary=""', (400,)),
        ("another boundary", "multipart/form-data; boundary=y", (400,)),
        ("a boundary of 10,000", "multipart/form-data; boundary=" + "b" * 10_000, (400,)),
        ("two boundaries", "multipart/form-data; boundary=y; boundary={}", (200, 400)),
        ("a numbered parameter", "multipart/form-data; boundary*" + "9" * 9000 + "=x", (400,)),
        ("5,000 parameters", "multipart/form-data" + ";a=b" * 3500, (400,)),
        ("quotes that never end", 'multipart/form-data; boundary="x', (200, 400)),
    ):
        yield case(f"form: {name}", form(part(image), content_type=content_type), *statuses)
    for name, boundary, statuses in (
        ("of 70", "b" * 70, (200,)),
        ("of 71", "b" * 71, (400,)),
        ("é", "\xe9", (200, 400)),
    ):
        yield case(f"form: a boundary {name}", form(part(image, boundary=boundary), boundary=boundary), *statuses)
    for name, body, statuses in (
        ("no last boundary", part(image), (400,)),
        ("nothing", b"", (400,)),
        ("the last boundary alone", b"--x--\r\n", (400,)),
        ("no boundary in the body", image, (400,)),
        ("text before and after", b"\r\nhello\r\n" + part(image) + b"--x--\r\nbye", (200, 400)),
        ("bare line feeds", part(image).replace(b"\r\n", b"\n") + b"--x--\n", (400,)),
    ):
        yield case(f"form: {name}", post(body, FORM), *statuses)
    yield case("form: an empty image", form(part(b"")), 422)
    yield case("form: near boundaries", form(part(b"\r\n--y\r\n--" * 20_000)), 415)
    yield case("form: boundaries with something behind", form(part(b"\r\n--xy" * 40_000)), 400, 415)
    for name, headers, statuses in (
        ("5 KB of part header", (DISPOSITION, "X-Long: " + "a" * 5000), (400,)),
        ("500 part headers", (DISPOSITION, *["A: b"] * 500), (400,)),
        ("a part header without a colon", ("nonsense",), (400,)),
        ("no name", ("Content-Disposition: form-data",), (400,)),
        ("two names", (named('name="other"; name="file"'),), (200, 400)),
        ("a name in capitals", (named('name="FILE"'),), (400,)),
        ("an extended name", (named("name*=utf-8''file"),), (400,)),
    ):
        yield case(f"form: {name}", form(part(image, *headers)), *statuses)
    for name in (
        "a\x01b\x1b[31m", "../../etc/passwd", "C:\\\\windows\\\\x", "\xff\xfe", "a" * 3000, "%00", "", "a\0b", "\x7f",
        "'; --",
    ):  # fmt: skip
        disposition = named(f'name="file"; filename="{name}"')
        yield case(f"form: a file called {name[:20]!r}", form(part(image, disposition)), 200)
    base64 = form(part(b"aGVsbG8=", DISPOSITION, "Content-Transfer-Encoding: base64"))
    yield case("form: encoded in base64", base64, 415)
    urlencoded = post(b"file=abc&url=http://x", "Content-Type: application/x-www-form-urlencoded")
    yield case("form: of a URL-encoded kind", urlencoded, 415)


def parameters() -> Iterator[Case]:
    image = png(1)
    wrong = ("0", "-1", "1e3", "9" * 5000, "%00", "%D9%A1", "", "1%0a")
    odd = ("", "&&&&", "=", "top_k[]=1", "%", "%zz=%zz", "top_k=1;top_k=2&top_k=3", "a=b&" * 3000, "?" * 100,
           "top_k=99&top_k=1")  # fmt: skip
    for path, queries, status in (
        ("/classify", [f"top_k={value}" for value in wrong], 422),
        ("/embed", ["normalize=2", "normalize=", "normalize=%ff", "normalize=truetrue"], 422),
        ("/classify", odd, 200),
    ):
        for query in queries:
            yield case(f"query: {query[:30]!r}", post(image, path=f"{path}?{query}"), status)
    for value in ("0", "-1", "1e9", "9" * 5000, "\xb2", "", "NaN", "1, 2"):
        yield case(f"timeout: {value[:20]!r}", post(image, f"X-Request-Timeout-Ms: {value}"), 422)
    npy = [f"application/x-npy;q={quality}" for quality in ("1e999", "-1")]
    for value in ("*/*;q=nan", *npy, "," * 5000, ";;;", "\xff" * 100, "a/b;" * 3000):
        yield case(f"accept: {value[:30]!r}", post(image, f"Accept: {value}", path="/embed"), 200)


def codings() -> Iterator[Case]:
    image, squeezed = png(1), gzip.compress(png(1))
    for name, body, coding, statuses in (
        ("gzip", squeezed, "gzip", (200,)),
        ("deflate", zlib.compress(image), "deflate", (200,)),
        ("a bomb", gzip.compress(bytes(2**28)), "gzip", (413,)),
        ("a bomb in a bomb", gzip.compress(gzip.compress(bytes(2**28))), "gzip, gzip", (415,)),
        ("10,000 empty streams", gzip.compress(b"") * 10_000, "gzip", (400,)),
        ("50,000 empty blocks", b"\0\0\0\xff\xff" * 50_000, "deflate", (400,)),
        ("a cut stream", squeezed[:-9], "gzip", (400,)),
        ("a stream that is none", image, "gzip", (400,)),
        ("a dictionary", zlib.compressobj(zdict=b"abc").flush(), "deflate", (400,)),
        ("5,000 codings", image, "gzip," * 3000, (415,)),
        ("a coding that is not ASCII", image, "\xe9\xff", (415,)),
    ):
        yield case(f"coding: {name}", post(body, f"Content-Encoding: {coding}"), *statuses)


def content() -> list[Case]:
    return [*forms(), *parameters(), *codings()]
