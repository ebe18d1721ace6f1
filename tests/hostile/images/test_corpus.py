"""The whole corpus against a real server with the real model: every answer as it must be, good pictures unaffected."""

from __future__ import annotations

import io
import math
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from service.config import Settings
from service.image import PREVIEW_SIDE, Limits, inspect
from service.model.artifact import Artifact
from service.serving.memory_limits import USUAL_PIXELS
from tests.e2e.process import ServerProcess, server
from tests.hostile.images.case import COARSE, LOSSY, STORED, Case, encode, references, stored
from tests.hostile.images.corpus import corpus
from tests.hostile.images.verdict import UNAFFECTED, Judge, in_batches, side_by_side
from tests.scrape import samples
from tests.waiting import until

pytestmark = pytest.mark.slow

#: Low, so that what is exactly at a limit is quick to make and to decode.
MAX_PIXELS, MAX_BODY_BYTES = 2_000_000, 5 * 2**20

#: Megabytes that the server's memory may grow by from the first round of the corpus to the third.
MAX_GROWTH_MB = 50


@pytest.fixture(scope="module")
def limited(real_artifact: Artifact) -> Iterator[ServerProcess]:
    with server("--max-pixels", str(MAX_PIXELS), "--max-body-bytes", str(MAX_BODY_BYTES)) as running:
        yield running


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return corpus(Limits(max_pixels=MAX_PIXELS), MAX_BODY_BYTES)


def test_every_answer_is_as_it_must_be_and_good_pictures_stay_good(limited: ServerProcess, cases: list[Case]) -> None:
    assert len(cases) > 1000
    with limited.client() as client:
        complaints, disturbed = in_batches(Judge(client), cases, size=32, concurrency=4)
        assert complaints == []
        assert disturbed == []
        assert client.get("/readyz").status_code == 200
    assert_nothing_was_logged_but_requests(limited)


def test_class_maps_of_it_are_refused_or_drawn_on_a_small_copy(limited: ServerProcess, cases: list[Case]) -> None:
    limits = Limits(max_pixels=MAX_PIXELS)
    with limited.client() as client:
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
        assert client.get("/readyz").status_code == 200
    assert_nothing_was_logged_but_requests(limited)


def test_sixteen_hostile_and_sixteen_good_at_once(limited: ServerProcess, cases: list[Case]) -> None:
    chosen = random.Random(4).sample(cases, 128)
    with limited.client() as client, ThreadPoolExecutor(32) as pool:
        judge = Judge(client)
        for start in range(0, len(chosen), 16):
            complaints, disturbed = side_by_side(judge, chosen[start : start + 16], pool)
            assert complaints == []
            assert disturbed == []


def test_the_tolerances_tell_pictures_apart(limited: ServerProcess) -> None:
    """No orientation, and no loss of colour, would pass for the clean picture by accident."""
    with limited.client() as client:
        judge = Judge(client)
        plain = judge.embedding(references()["plain"])
        for orientation in set(STORED) - {1}:
            cosine = float(judge.embedding(encode(stored(orientation), "PNG")) @ plain)
            assert cosine < (LOSSY if orientation == 2 else COARSE), orientation
        assert float(judge.embedding(references()["grey"]) @ plain) < COARSE


def test_a_wrong_answer_is_a_complaint(limited: ServerProcess) -> None:
    picture = references()["plain"]
    with limited.client() as client:
        judge = Judge(client)
        assert judge.complaints(Case("fine", picture, frozenset({200}), UNAFFECTED, warnings=())) == []
        for wrong in (
            Case("status", picture),
            Case("warnings", picture, frozenset({200}), warnings=("none such",)),
            Case("picture", references()["grey"], frozenset({200}), LOSSY),
        ):
            assert len(judge.complaints(wrong)) == 1


def assert_nothing_was_logged_but_requests(running: ServerProcess) -> None:
    """Neither a traceback nor a word of a C library; the first lines are the start's."""
    others = [line for line in running.lines if " request " not in line]
    assert len(others) < 20, "".join(others[-20:])
    assert "Traceback" not in running.output


@pytest.mark.torture
def test_three_rounds_of_the_corpus(real_artifact: Artifact, record_figure: Callable[[str, str], None]) -> None:
    """With the default limits: 50 megapixels, 16 MiB."""
    settings = Settings()
    cases = corpus(Limits(max_pixels=USUAL_PIXELS), settings.max_body_bytes)
    complaints, disturbed, memory = list[str](), list[str](), list[float]()
    good = 0
    with server() as running, running.client() as client:
        judge = Judge(client)
        stop = threading.Event()

        def keep_asking() -> int:
            asked = 0
            while not stop.is_set():
                disturbed.extend(judge.disturbed())
                asked += 1
            return asked

        for round_number in range(3):
            order = random.Random(round_number).sample(cases, len(cases))
            stop.clear()
            with ThreadPoolExecutor(8) as pool, ThreadPoolExecutor(2) as others:
                asking = [others.submit(keep_asking) for _ in range(2)]
                try:
                    for found in pool.map(judge.complaints, order):
                        complaints += found
                finally:
                    stop.set()
                good += sum(future.result() for future in asking)
            memory.append(megabytes_given_back(client, running.process.pid))
        assert client.get("/readyz").status_code == 200
    record_figure("hostile cases", str(len(cases)))
    record_figure("violations", f"{len(complaints)} in {3 * len(cases)} requests, 8 at once")
    record_figure("good requests affected", f"{len(disturbed)} of {good} sent meanwhile")
    record_figure("RSS growth over three rounds", f"{memory[2] - memory[0]:+.0f} MB ({memory[0]:.0f} after the first)")
    assert complaints == []
    assert disturbed == []
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
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kilobytes) * 1024 / 1e6
