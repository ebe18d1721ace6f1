"""Abuse of HTTP itself: lengths, chunks, heads, request lines, methods, pipelines."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.http.case import Case, case
from tests.hostile.http.wire import chunk, get, post
from tests.running import png

GOOD = post(png(1))
#: For what waits until its deadline.
SOON = "X-Request-Timeout-Ms: 100"


def head(*lines: str) -> bytes:
    """The head of a POST, framed by ``lines`` alone."""
    return get("/classify", *lines, method="POST")


def lengths() -> Iterator[Case]:
    body = png(1)
    yield case("length: none and no body", head(), 400)
    yield case("length: zero", head("Content-Length: 0"), 400)
    yield case("length: one too few", head(f"Content-Length: {len(body) - 1}") + body, 200, 422, closes=True)
    yield case("length: half", head(f"Content-Length: {len(body) // 2}") + body, 422, closes=True)
    yield case("length: one too many", head(f"Content-Length: {len(body) + 1}", SOON) + body, 504, closes=None)
    yield case("length: far too many", head("Content-Length: 200000", SOON) + body, 504, closes=None)
    yield case("length: over the limit", head("Content-Length: 300001"), 413, closes=None)
    for value in ("1000000000000000", "9223372036854775807", "18446744073709551615"):
        yield case(f"length: {value}", head(f"Content-Length: {value}"), 413, closes=None)
    for value in ("-1", "-5", "+5", "abc", "1e3", "0x10", "5.0", "5,5", "5 5", "", "18446744073709551616", "9" * 500):
        yield case(f"length: {value[:30]!r}", head(f"Content-Length: {value}") + body, 400, closes=True)
    for name, other in (("two different", 5), ("twice the same", len(body))):
        twice = head(f"Content-Length: {other}", f"Content-Length: {len(body)}")
        yield case(f"length: {name}", twice + body, 400, closes=True)
    yield case("length: a request hidden in the body", post(get("/livez") * 3), 415)
    yield case("length: of a GET with a body", get("/livez", "Content-Length: 5") + b"abcde", 200)
    # A connection whose client cannot send any more is closed: half-open ones are not kept.
    yield Case("length: the client hangs up", head("Content-Length: 100") + b"abc", (), closes=True, hangs_up=True)


def chunks() -> Iterator[Case]:
    body = png(1)
    start = head("Transfer-Encoding: chunked")
    end = b"0\r\n\r\n"
    yield case("chunks: one", start + chunk(body) + end, 200)
    yield case("chunks: of one byte", start + b"".join(chunk(body[i : i + 1]) for i in range(len(body))) + end, 200)
    yield case("chunks: in capitals", start + b"%X\r\n%b\r\n" % (len(body), body) + end, 200)
    yield case("chunks: zeros before the size", start + b"0000%x\r\n%b\r\n" % (len(body), body) + end, 200)
    yield case("chunks: an extension", start + chunk(body, ';name="a value"') + end, 200)
    yield case("chunks: long extensions", start + chunk(body, ";" + "x" * 50_000) + end, 200)
    yield case("chunks: an endless extension", start + b"5;" + b"x" * 1_000_000, 431, closes=True)
    yield case("chunks: trailers", start + chunk(body) + b"0\r\nX-Sum: 1\r\n\r\n", 200)
    yield case("chunks: a length as trailer", start + chunk(body) + b"0\r\nContent-Length: 5\r\n\r\n", 400, closes=True)
    yield case("chunks: endless trailers", start + chunk(body) + b"0\r\n" + b"A: b\r\n" * 200_000, 431, closes=True)
    yield case("chunks: none", start + end, 400)
    yield case("chunks: over the limit", start + chunk(b"x" * 300_001) + end, 413, closes=None)
    yield case("chunks: no end", head("Transfer-Encoding: chunked", SOON) + chunk(body), 504, closes=None)
    yield case("chunks: half a size", head("Transfer-Encoding: chunked", SOON) + b"5", 504, closes=None)
    yield case("chunks: half a chunk", head("Transfer-Encoding: chunked", SOON) + chunk(body)[:-50], 504, closes=None)
    for size in (b"zz", b"-1", b"0x5", b"", b" 5", b"5 5", b"5;\0", b"F" * 17, b"5\n", b"\xff"):
        yield case(f"chunks: of size {size!r}", start + size + b"\r\nabcde\r\n" + end, 400, closes=True)
    yield case("chunks: more than their size", start + b"3\r\nabcde\r\n" + end, 400, closes=True)
    yield case("chunks: bad after good ones", start + chunk(body) + b"zz\r\n", 400, closes=True)


def transfer_encodings() -> Iterator[Case]:
    """Two ways to say where a body ends are how requests are smuggled past a balancer."""
    body = chunk(png(1)) + b"0\r\n\r\n"
    for name, lines in {
        "with a length": ("Transfer-Encoding: chunked", "Content-Length: 5"),
        "after a length": ("Content-Length: 5", "Transfer-Encoding: chunked"),
        "identity": ("Transfer-Encoding: identity",),
        "unknown": ("Transfer-Encoding: xchunked",),
        "chunked, then another": ("Transfer-Encoding: chunked, identity",),
        "chunked, then another on its own line": ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        "a folded line": ("Transfer-Encoding:", " chunked"),
        "a space before the colon": ("Transfer-Encoding : chunked",),
        "a tab before the colon": ("Transfer-Encoding\t: chunked",),
        "a vertical tab": ("Transfer-Encoding:\x0bchunked",),
        "quoted": ('Transfer-Encoding: "chunked"',),
    }.items():
        yield case(f"encoding: {name}", head(*lines) + body, 400, closes=True)
    gzip = head("Transfer-Encoding: gzip, chunked") + chunk(b"\x1f\x8b") + b"0\r\n\r\n"
    yield case("encoding: gzip, chunked", gzip, 415)
    yield case("encoding: of the content", post(b"\x1f\x8b\x08" + bytes(50), "Content-Encoding: gzip"), 400)
    yield case(
        "encoding: chunked by HTTP/1.0", b"POST /classify HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
        200, 400, closes=True,
    )  # fmt: skip


def expectations() -> Iterator[Case]:
    yield case("expect: 100-continue, all at once", post(png(1), "Expect: 100-continue"), 200)
    yield case("expect: in capitals", post(png(1), "Expect: 100-CONTINUE"), 200)
    yield case("expect: something else", post(png(1), "Expect: 200-ok"), 200)
    yield case("expect: for too much", head("Content-Length: 300001", "Expect: 100-continue"), 413, closes=None)
    yield case("expect: and no body", head("Content-Length: 50", "Expect: 100-continue", SOON), 504, closes=None)


def heads() -> Iterator[Case]:
    for name, line in {
        "no colon": "Nonsense",
        "no name": ": value",
        "a space in the name": "X Name: value",
        "a control character in the name": "X\x01Name: value",
        "NUL in the value": "X-Name: a\0b",
        "a control character in the value": "X-Name: a\x01b",
        "a bare CR in the value": "X-Name: a\rb",
        "an escape in an id": "X-Request-Id: \x1b[31m",
        "a line break in an id": "X-Request-Id: a\r\n folded",
    }.items():
        yield case(f"head: {name}", get("/livez", line), 200 if "folded" in line else 400, 400, closes=None)
    yield case("head: not UTF-8", get("/livez", "X-Name: \xff\xfe\xe9", "X-Request-Id: \xe9"), 200)
    latin = post(png(1), "Content-Type: \xff/\xfe; boundary=\xe9", "Accept: \xe9")
    yield case("head: not UTF-8 where it matters", latin, 200)
    yield case("head: bare line feeds", b"GET /livez HTTP/1.1\nHost: x\n\n", 200, 400, closes=None)
    yield case("head: no host", b"GET /livez HTTP/1.1\r\n\r\n", 200, 400, closes=None)
    yield case("head: 15 KB", get("/livez", "X-Name: " + "a" * 15_000), 200)
    yield case("head: 17 KB", get("/livez", "X-Name: " + "a" * 17_000), 431)
    yield case("head: 17 KB of address", get("/livez?" + "a" * 17_000), 431)
    yield case("head: 3,000 lines", get("/livez", *["A: b"] * 3000), 431)
    yield case("head: 10,000 empty lines before it", b"\r\n" * 10_000 + get("/livez"), 200)
    yield case("head: empty lines and nothing else", b"\r\n" * 100_000, 431, closes=True)
    yield case("head: 300 KB and no end", get("/livez", "X-Name: " + "a" * 300_000)[:-4], 431, closes=True)
    yield case("head: 300 KB of name and no end", get("/livez", "a" * 300_000)[:-4], 431, closes=True)
    yield case("head: 300 KB of address and no end", b"GET /" + b"a" * 300_000, 431, closes=True)
    yield Case("head: cut off", GOOD[:40], (), closes=True, hangs_up=True)
    yield case("head: Connection: close", get("/livez", "Connection: close"), 200, closes=True)
    yield case("head: a WebSocket asked for", get("/livez", "Connection: Upgrade", "Upgrade: websocket"), 200)
    upgrade = get("/livez", "Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAM")
    yield case("head: HTTP/2 asked for", upgrade, 200)
    yield case("head: an upgrade with a body", post(png(1), "Connection: Upgrade", "Upgrade: h2c"), 200)


def request_lines() -> Iterator[Case]:
    for name, line in {
        "lower case": "get /livez HTTP/1.1",
        "an unknown method": "BREW /livez HTTP/1.1",
        "a long method": "A" * 5000 + " /livez HTTP/1.1",
        "no address": "GET HTTP/1.1",
        "HTTP/9.9": "GET /livez HTTP/9.9",
        "another protocol": "GET /livez FTP/1.1",
        "no number": "GET /livez HTTP/",
        "a space in the address": "GET /li vez HTTP/1.1",
        "NUL in the address": "GET /li\0vez HTTP/1.1",
        "not ASCII": "GET /liv\xe9z HTTP/1.1",
        "an address without a path": "GET http://x HTTP/1.1",
        "no path at all": "GET x HTTP/1.1",
    }.items():
        yield case(f"line: {name}", f"{line}\r\nHost: x\r\n\r\n".encode("latin-1"), 400, 404, closes=None)
    yield case("line: /classify%0a", get("/classify%0a"), 404, 405)
    for path in (
        "/nothing", "//classify", "/classify/", "/classify//", "/%2e%2e/etc/passwd", "/../etc/passwd", "/classify%00",
        "/%ff", "/%zz", "/%", "/docs/assets/../../../etc/passwd", "/docs/assets/%2e%2e/%2e%2e/etc/passwd",
        "/docs/assets/__init__.py", "/docs/assets/__pycache__/__init__.cpython-311.pyc", "/docs/assets/__pycache__",
        "/docs/assets/", "/docs/assets/.", "/docs/assets/..", "/docs/assets//etc/passwd", "/.git/config",
    ):  # fmt: skip
        yield case(f"line: {path}", get(path), 404)
    yield case("line: a whole address", get("http://elsewhere.test/livez"), 200)
    yield case("line: HTTP/2.0", b"GET /livez HTTP/2.0\r\n\r\n", 200, 400, closes=None)
    yield case("line: HTTP/1.0", b"GET /livez HTTP/1.0\r\n\r\n", 200, closes=True)
    yield case("line: HTTP/0.9", b"GET /livez\r\n\r\n", 200, 400, closes=True)
    for name, start in {
        "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(189)),
        "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        "a proxy protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get("/livez"),
        "zeros": bytes(1000),
        "noise": bytes((7 * i * i + 13) % 256 for i in range(5000)),
        "a JPEG": b"\xff\xd8\xff\xe0" + bytes(1000),
    }.items():
        yield case(f"line: none, but {name}", start, 400, closes=True)


def methods() -> Iterator[Case]:
    for path in ("/classify", "/embed"):
        for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE"):
            yield case(f"method: {method} {path}", get(path, method=method), 405)
        yield case(f"method: OPTIONS {path}", get(path, method="OPTIONS"), 204)
        yield case(f"method: HEAD {path}", get(path, method="HEAD"), 405, to_head=True)
    for path in ("/livez", "/readyz", "/metrics", "/models", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
        yield case(f"method: HEAD {path}", get(path, method="HEAD"), 200, to_head=True)
        for method in ("POST", "PUT", "TRACE"):
            yield case(f"method: {method} {path}", get(path, method=method), 405)
        yield case(f"method: OPTIONS {path}", get(path, method="OPTIONS"), 204)
    yield case("method: CONNECT", b"CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405, closes=True)
    yield case("method: OPTIONS *", get("*", method="OPTIONS"), 204)


def pipelines() -> Iterator[Case]:
    ok, not_found, unsupported = frozenset({200}), frozenset({404}), frozenset({415})
    yield Case("pipeline: three", GOOD + get("/nothing") + post(b"x"), (ok, not_found, unsupported))
    yield Case("pipeline: sixteen", GOOD + get("/livez") * 15, (ok,) * 16)
    yield Case("pipeline: good, then garbage", GOOD + b"\0\0\0\0", (ok,), closes=True)
    yield Case("pipeline: two good, then garbage", GOOD + get("/livez") + b"\0\0\0\0", (ok,), closes=True)
    yield Case("pipeline: ten thousand", GOOD + get("/livez") * 10_000, (ok,), closes=True)
    yield Case("pipeline: after Connection: close", post(png(1), "Connection: close") + GOOD, (ok,), closes=True)


def framing() -> list[Case]:
    return [
        *lengths(), *chunks(), *transfer_encodings(), *expectations(), *heads(), *request_lines(), *methods(),
        *pipelines(),
    ]  # fmt: skip
