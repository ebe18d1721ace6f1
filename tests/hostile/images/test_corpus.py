"""The whole corpus against a real server with the real model: every answer as it must be, good pictures unaffected."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from service.config import Settings
from service.image import PREVIEW_SIDE, Limits, inspect
from service.serving.memory_limits import USUAL_PIXELS
from tests.e2e.process import PATIENT, ServerProcess, server
from tests.hostile.bystanders import asking
from tests.hostile.conftest import RecordFigure
from tests.hostile.images.case import COARSE, LOSSY, OK, Case
from tests.hostile.images.corpus import corpus
from tests.hostile.images.pictures import plain_image, references
from tests.hostile.images.verdict import UNAFFECTED, Judge
from tests.image.samples import STORED, encode, stored
from tests.processes import tree
from tests.scrape import samples
from tests.waiting import until

#: Making the corpus and sending it take half a minute each, on a machine that is slow or shared several times that.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("real_artifact")]

#: Low, so that what is exactly at a limit is quick to make and to decode.
MAX_PIXELS, MAX_BODY_BYTES = 2_000_000, 5 * 2**20

#: Megabytes that the server's memory may grow by from the first round of the corpus to the third.
MAX_GROWTH_MB = 50


@pytest.fixture(scope="module")
def limited() -> Iterator[ServerProcess]:
    limits = ("--max-pixels", str(MAX_PIXELS), "--max-body-bytes", str(MAX_BODY_BYTES))
    with server(*limits, *PATIENT) as running:
        yield running


@pytest.fixture
def client(limited: ServerProcess) -> Iterator[httpx.Client]:
    with limited.client() as client:
        yield client
        assert client.get("/readyz").status_code == 200
    assert_nothing_was_logged_but_requests(limited)


@pytest.fixture
def judge(client: httpx.Client) -> Judge:
    return Judge(client)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return corpus(Limits(max_pixels=MAX_PIXELS), MAX_BODY_BYTES)


def test_every_answer_is_as_it_must_be_and_good_pictures_stay_good(judge: Judge, cases: list[Case]) -> None:
    assert len(cases) > 1000
    complaints: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(cases), 32):
            for found in pool.map(judge.complaints, cases[start : start + 32]):
                complaints += found
            complaints += judge.disturbed()
    assert complaints == []


def test_class_maps_of_it_are_refused_or_drawn_on_a_small_copy(client: httpx.Client, cases: list[Case]) -> None:
    limits = Limits(max_pixels=MAX_PIXELS)
    for case in cases:
        headers = {"Accept": "image/png", "Content-Type": case.content_type}
        answer = client.post("/explain", content=case.data, headers=headers)
        assert answer.status_code in case.statuses, case.name
        if answer.status_code == 200:
            size = inspect(case.data, limits).upright_size
            factor = math.ceil(max(size) / PREVIEW_SIDE)
            with Image.open(io.BytesIO(answer.content)) as drawing:
                assert drawing.size == tuple(math.ceil(side / factor) for side in size), case.name
                drawing.load()


def test_sixteen_hostile_and_sixteen_good_at_once(judge: Judge, cases: list[Case]) -> None:
    chosen = random.Random(4).sample(cases, 128)
    with ThreadPoolExecutor(32) as pool:
        for start in range(0, len(chosen), 16):
            hostile = [pool.submit(judge.complaints, case) for case in chosen[start : start + 16]]
            good = [pool.submit(judge.disturbed) for _ in range(16)]
            assert [complaint for future in (*hostile, *good) for complaint in future.result()] == []


def test_the_tolerances_tell_pictures_apart(judge: Judge) -> None:
    """No orientation, and no loss of colour, would pass for the clean picture by accident."""
    plain = judge.embedding(references()["plain"])
    for orientation in set(STORED) - {1}:
        cosine = float(judge.embedding(encode(stored(plain_image(), orientation), "PNG")) @ plain)
        assert cosine < (LOSSY if orientation == 2 else COARSE), orientation
    assert float(judge.embedding(references()["grey"]) @ plain) < COARSE


def test_a_wrong_answer_is_a_complaint(judge: Judge) -> None:
    picture = references()["plain"]
    assert judge.complaints(Case("fine", picture, OK, UNAFFECTED, warnings=())) == []
    for wrong in (
        Case("status", picture),
        Case("warnings", picture, OK, warnings=("none such",)),
        Case("picture", references()["grey"], OK, LOSSY),
    ):
        assert len(judge.complaints(wrong)) == 1


def assert_nothing_was_logged_but_requests(running: ServerProcess) -> None:
    """Neither a traceback nor a word of a C library; the first lines are the start's."""
    others = [line for line in running.lines if " request " not in line]
    assert len(others) < 20, "".join(others[-20:])
    assert "Traceback" not in running.output


@pytest.mark.torture
def test_three_rounds_of_the_corpus(record_figure: RecordFigure) -> None:
    """With the default limits: 50 megapixels, 16 MiB."""
    cases = corpus(Limits(max_pixels=USUAL_PIXELS), Settings().max_body_bytes)
    complaints, disturbed, memory = list[str](), list[list[str]](), list[float]()
    with server() as running, running.client() as client:
        judge = Judge(client)
        for round_number in range(3):
            order = random.Random(round_number).sample(cases, len(cases))
            with ThreadPoolExecutor(8) as pool, asking(judge.disturbed, threads=2) as beside:
                for found in pool.map(judge.complaints, order):
                    complaints += found
            disturbed += beside
            memory.append(megabytes_given_back(client, running.process.pid))
        assert client.get("/readyz").status_code == 200
    affected = sum(disturbed, start=list[str]())
    record_figure("hostile cases", str(len(cases)))
    record_figure("violations", f"{len(complaints)} in {3 * len(cases)} requests, 8 at once")
    record_figure("good requests affected", f"{len(affected)} of {len(disturbed)} sent meanwhile")
    record_figure("RSS growth over three rounds", f"{memory[2] - memory[0]:+.0f} MB ({memory[0]:.0f} after the first)")
    assert complaints == []
    assert affected == []
    assert memory[2] - memory[0] < MAX_GROWTH_MB
    assert_nothing_was_logged_but_requests(running)


def megabytes_given_back(client: httpx.Client, pid: int) -> float:
    """Resident memory once the server has given back what the last round took (``memory.GiveBackWhenIdle``)."""
    until(lambda: samples(client.get("/metrics").text)["mobilenet_in_flight"] == 0, timeout=30, what="all is answered")
    taken = megabytes(pid)
    until(lambda: megabytes(pid) < taken - 1, timeout=30, what="memory is given back")
    client.get("/livez")  # answered by the event loop, which gives back: it has finished
    return megabytes(pid)


def megabytes(pid: int) -> float:
    return tree.resident(pid) * 2**20 / 1e6
