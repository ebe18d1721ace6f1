"""Bodies with a Content-Encoding: inflated as they arrive, within the limits, or refused with what is accepted."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.datastructures import Headers

from service.errors import ServiceError
from service.http.request import read_body
from service.model.artifact import Artifact
from service.serving.admission import BYTES_PER_UNIT
from tests.running import RunningApp, detail, png, running_app


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "x-gzip": gzip.compress,
}


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("pieces", [1, 50], ids=["at once", "in pieces"])
def test_a_compressed_image_or_form_is_as_good_as_a_plain_one(app: RunningApp, coding: str, pieces: int) -> None:
    form = app.client.build_request(
        "POST", "/classify", files=[("file", ("a.png", png(6))), ("b", ("b.png", png(7)))], data={"top_k": "2"}
    )
    plain = form.read()
    for body, headers, count in ((png(5), {}, 1), (plain, {"Content-Type": form.headers["content-type"]}, 2)):
        sent = COMPRESS[coding](body)
        size = len(sent) // pieces + 1
        chunks = iter([sent[at : at + size] for at in range(0, len(sent), size)])
        answer = app.client.post("/classify", content=chunks, headers={**headers, "Content-Encoding": coding})
        expected = app.client.post("/classify", content=body, headers=headers)
        assert (answer.status_code, answer.content) == (200, expected.content)
        assert len(answer.json()["results"]) == count


@pytest.mark.parametrize("coding", ["identity", "", "Identity, gzip", "gzip ,"])
def test_identity_is_no_coding(app: RunningApp, coding: str) -> None:
    body = gzip.compress(png(5)) if "gzip" in coding else png(5)
    assert app.client.post("/classify", content=body, headers={"Content-Encoding": coding}).status_code == 200


@pytest.mark.parametrize(
    "codings", [["br"], ["zstd"], ["gzip, gzip"], ["gzip", "deflate"], ["utf-8"], ["x\xe9\t'" * 99]]
)
def test_other_codings_are_415_with_those_that_are_accepted(app: RunningApp, codings: list[str]) -> None:
    headers = [(b"content-encoding", coding.encode("latin-1")) for coding in codings]
    refused = app.client.post("/classify", content=gzip.compress(png(1), mtime=0), headers=headers)
    assert detail(refused, 415).startswith("Content-Encoding ")
    assert refused.text.isascii()
    assert refused.headers["accept-encoding"] == "gzip, deflate"
    assert app.metric('mobilenet_rejected_total{reason="unsupported_coding"}') > 0


@pytest.mark.parametrize(
    ("coding", "sent", "said"),
    [
        ("gzip", png(1), "is not valid gzip data, as Content-Encoding says"),
        ("deflate", png(1), "is not valid deflate data"),
        ("deflate", gzip.compress(png(1), mtime=0), "is not valid deflate data"),
        ("gzip", gzip.compress(png(1), mtime=0)[:-8] + bytes(8), "is not valid gzip data"),
        ("gzip", gzip.compress(png(1), mtime=0) + b"more", "is not valid gzip data"),
        ("gzip", gzip.compress(png(1), mtime=0)[:-1], "is truncated: its gzip data has no end"),
        ("gzip", gzip.compress(png(1), mtime=0)[:20], "is truncated"),
        ("deflate", raw_deflate(png(1))[:-1], "is truncated"),
        ("deflate", zlib.compress(png(1)) + b"more", "goes on after the end of its deflate data"),
        ("gzip", gzip.compress(b"", mtime=0) * 1001, "goes on after the end of its gzip data"),
        ("gzip", gzip.compress(b"", mtime=0), "the body is empty"),
        ("gzip", b"", "the body is empty"),
    ],
)
def test_a_damaged_stream_is_400(app: RunningApp, coding: str, sent: bytes, said: str) -> None:
    assert said in detail(app.client.post("/classify", content=sent, headers={"Content-Encoding": coding}), 400)


def test_several_gzip_streams_are_one_body(app: RunningApp) -> None:
    sent = b"".join(gzip.compress(png(4)[at : at + 100]) for at in range(0, len(png(4)), 100))
    answer = app.client.post("/classify", content=sent, headers={"Content-Encoding": "gzip"})
    assert answer.json()["results"][0]["predictions"][0]["index"] == 4


def test_the_limit_of_a_body_is_for_its_inflated_bytes_too(app: RunningApp) -> None:  # 200,000
    for size, status in ((200_000, 415), (200_001, 413), (2**27, 413)):
        for compress in (gzip.compress, zlib.compress, raw_deflate):
            coding = "gzip" if compress is gzip.compress else "deflate"
            answer = app.client.post("/classify", content=compress(bytes(size)), headers={"Content-Encoding": coding})
            assert answer.status_code == status, answer.text
    chunks: Iterator[bytes] = iter([gzip.compress(os.urandom(1000))] * 210)  # more compressed than inflated
    answer = app.client.post("/classify", content=chunks, headers={"Content-Encoding": "gzip"})
    assert detail(answer, 413).startswith("the body is larger than 200000 bytes")


def test_a_compressed_body_weighs_what_it_is_when_inflated(artifact: Artifact) -> None:
    sent: dict[str, Any] = {
        "content": gzip.compress(bytes(3 * BYTES_PER_UNIT)),
        "headers": {"Content-Encoding": "gzip"},
    }
    with running_app(artifact, max_in_flight=6) as app:
        with app.intake.admission.admit(2):
            assert app.client.post("/classify", **sent).status_code == 415  # it weighs 4
        with app.intake.admission.admit(3):
            detail(app.client.post("/classify", **sent), 503)
        app.wait_for_metric("mobilenet_in_flight", 0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "bomb", [gzip.compress(bytes(2**27)), gzip.compress(b"", mtime=0) * 500_000], ids=["zeros", "streams"]
)
async def test_a_bomb_is_inflated_no_further_than_the_limit_and_in_pieces(bomb: bytes) -> None:
    turns = 0
    sizes: list[int] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bomb, "more_body": False}

    neighbour = asyncio.ensure_future(others())
    with pytest.raises(ServiceError):
        await read_body(Headers({"content-encoding": "gzip"}), receive, 2**24, 1, sizes.append)
    neighbour.cancel()
    assert max(sizes) <= 2**24
    assert 400 < turns < 10_000
