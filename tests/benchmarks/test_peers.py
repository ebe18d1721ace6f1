"""``make bench-peers`` without any peer: requests on the wire, answers read, load counted, the report drawn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import struct
from collections.abc import AsyncIterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks import load
from benchmarks.load import Sample
from benchmarks.peers import catalogue, environments, report
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers_bench import agrees, summary

JPEG = b"\xff\xd8 not really \r\n\r\n a photo \xff\xd9"


def parts(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return first, headers, body


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_a_request_is_whole_and_carries_the_photo(peer: catalogue.Peer) -> None:
    first, headers, body = parts(peer.request(JPEG))
    assert first.startswith("POST /")
    assert int(headers["content-length"]) == len(body)
    assert JPEG in body


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_a_peer_is_complete(peer: catalogue.Peer) -> None:
    assert environments.version(peer)
    assert any(environments.HERE.joinpath(peer.folder).glob("server.py"))
    lines = environments.requirements(peer).read_text().splitlines()
    assert all("==" in line and "/" not in line for line in lines), "exact versions, no addresses"
    assert f"`{peer.name}`" in (environments.HERE / "README.md").read_text()


def test_multipart_is_what_a_mail_parser_reads() -> None:
    _, headers, body = parts(catalogue.multipart("/p", "image")(JPEG))
    message = BytesParser().parsebytes(f"Content-Type: {headers['content-type']}\r\n\r\n".encode() + body)
    _, part = message.walk()
    assert part.get_param("name", header="content-disposition") == "image"
    assert part.get_payload(decode=True) == JPEG


def test_open_inference_appends_the_element_after_its_json() -> None:
    _, headers, body = parts(catalogue.open_inference("/infer")(JPEG))
    split = int(headers["inference-header-content-length"])
    (image,) = json.loads(body[:split])["inputs"]
    element = body[split:]
    assert image["parameters"]["binary_data_size"] == len(element)
    assert struct.unpack("<I", element[:4]) == (len(JPEG),)
    assert element[4:] == JPEG


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (catalogue.read_list, [{"label": "ant", "score": 0.5}, {"label": "bee", "score": 0.25}]),
        (catalogue.read_list, [[{"label": "ant", "score": 0.5}, {"label": "bee", "score": 0.25}]]),
        (catalogue.read_mapping, {"ant": 0.5, "bee": 0.25}),
        (
            catalogue.read_open_inference,
            {"outputs": [{"name": "label", "data": ["ant", "bee"]}, {"name": "score", "data": [0.5, 0.25]}]},
        ),
        (
            catalogue.read_ours,
            {
                "results": [
                    {"predictions": [{"label": "ant", "probability": 0.5}, {"label": "bee", "probability": 0.25}]}
                ]
            },
        ),
    ],
)
def test_answers_are_read(read: Any, answer: Any) -> None:
    assert read(json.dumps(answer).encode()) == [("ant", 0.5), ("bee", 0.25)]


def test_answers_must_agree() -> None:
    expected = [("ant", 0.5), ("bee", 0.25)]
    assert agrees([("ant", 0.501), ("bee", 0.249)], expected, "fp32")
    assert not agrees([("bee", 0.5), ("ant", 0.25)], expected, "fp32")
    assert not agrees([("ant", 0.6), ("bee", 0.25)], expected, "fp32")
    assert agrees([("bee", 0.4), ("ant", 0.3)], expected, "bf16")
    assert not agrees([("cat", 0.4), ("ant", 0.3)], expected, "bf16")


@contextlib.asynccontextmanager
async def answering(answers: list[bytes]) -> AsyncIterator[str]:
    """The address of a server that gives each request, in turn, one of ``answers``, and hangs up after an empty one."""
    turns = itertools.cycle(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                if not (answer := next(turns)):
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "expected"), [(WHOLE, (200, b"ok")), (CHUNKED, (200, b"ok")), (REFUSED, (503, b"")), (b"", (0, b""))]
)
async def test_the_client_reads_every_kind_of_answer(answer: bytes, expected: tuple[int, bytes]) -> None:
    async with answering([answer]) as url:
        read = await load.ask(url, load.post("/", JPEG))
    assert (read.status, read.body) == expected


@pytest.mark.anyio
async def test_load_survives_refusals_and_hang_ups_and_counts_them() -> None:
    async with answering([WHOLE, CHUNKED, REFUSED, b""]) as url:
        sample = await load.closed_loop(url, [load.post("/", JPEG)], concurrency=3, seconds=0.3)
    assert set(sample.statuses) == {200, 503, 0}
    assert len(sample.latencies) == sample.statuses[200]


def _samples(rate: float) -> dict[int, Any]:
    samples = []
    for factor in (1, 2):
        sample = Sample(seconds=1.0, latencies=[1 / rate / factor])
        sample.statuses.update({200: round(rate * factor), 503: 1})
        samples.append(sample)
    return {at_once: summary(samples) for at_once in (1, 8, 32)}


def _figures(theirs: dict[int, Any], **absent: dict[str, str]) -> dict[str, Any]:
    """Of one peer with the samples ``theirs``, and of peers that could not be measured."""
    peer = {
        "title": "Other", "version": "1.2", "start": 3.0, "memory": 900.0, "memory_proportional": 800.0, "killed": 0,
        "our_start": 0.5, "our_memory": 200.0, "ours": _samples(100), "peer": theirs,
    }  # fmt: skip
    rows = {"other": peer, **absent}
    return {"environment": {}, "rounds": 2, "seconds": 1.0, "lead": 0.5, "precisions": {"fp32": rows}}


@pytest.mark.extra
def test_a_peer_that_never_answered_has_dashes_in_its_row(tmp_path: Path) -> None:
    silent = summary([Sample(seconds=1.0), Sample(seconds=1.0)])
    row = report.write(_figures(dict.fromkeys((1, 8, 32), silent)), tmp_path).splitlines()[-1].split("|")
    assert [cell.strip() for cell in row].count("–") == 4, "p50, p99 and both ratios"


@pytest.mark.extra
def test_the_report_has_a_row_a_peer_ratios_by_round_and_reasons(tmp_path: Path) -> None:
    figures = _figures(_samples(20), gone={"title": "Gone", "version": "1", "reason": "no wheel"})
    text = report.write(figures, tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    head, _, ours, other = rows
    assert {len(row) for row in rows} == {len(head)}
    assert ours[0] == "**ours**"
    assert other[0] == "Other 1.2"
    assert other[-2:] == ["5.00", "0.20"], "ours is five times as fast in each round"
    assert other[head.index("not answered 200")] == "6 of 186"
    assert "* Gone: no wheel" in text
    assert (tmp_path / "peers.md").read_text() == text
    assert json.loads((tmp_path / "peers.json").read_text())["precisions"]["fp32"]["other"]["peer"]["32"]["errors"] == 2
    assert (tmp_path / "peers.svg").read_text().startswith("<?xml")
