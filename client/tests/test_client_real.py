"""Against real server processes: overload, a kill in the middle, sockets, and the rate."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks import photos as synthetic
from benchmarks.load import closed_loop, requests
from mobilenet_client import BadImage, Classification, Client, ServiceError, wire
from service.model.artifact import Artifact
from tests import photos as photo_files
from tests.e2e.process import PATIENT, server
from tests.waiting import until

pytestmark = pytest.mark.slow

#: Fewer than the client sends at once.
SMALL = ("--max-in-flight", "8", *PATIENT)


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """300 small photos, all different; every hundredth is no image."""
    photos = [synthetic.synthetic(64, 48, seed) for seed in range(300)]
    photos[50] = photos[150] = photos[250] = b"no image"
    return photos


@pytest.fixture(scope="module")
def expected(photos: list[bytes], real_artifact: Artifact) -> list[np.ndarray | int]:
    """Each photo's vector, asked for alone, or the status of its refusal."""
    found: list[np.ndarray | int] = []
    with server(*PATIENT) as running, running.client() as client:
        for photo in photos:
            answer = client.post("/embed", content=photo, headers={"Accept": "application/octet-stream"})
            ok = answer.status_code == 200
            found.append(np.frombuffer(answer.content, "<f4") if ok else answer.status_code)
    return found


def assert_equal(vectors: np.ndarray, errors: dict[int, ServiceError], expected: list[np.ndarray | int]) -> None:
    """Every row is its photo's own, and the bad ones are named."""
    assert {row: error.status for row, error in errors.items()} == {50: 415, 150: 415, 250: 415}
    assert all(isinstance(error, BadImage) and "text" in error.detail for error in errors.values())
    for row, vector in enumerate(expected):
        if isinstance(vector, int):
            assert np.isnan(vectors[row]).all()
        else:
            np.testing.assert_allclose(vectors[row], vector, atol=1e-4)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(seconds)

    monkeypatch.setattr(wire, "sleep", sleep)
    return pauses


def test_more_at_once_than_the_service_takes(
    photos: list[bytes], expected: list[np.ndarray | int], refused: list[float]
) -> None:
    with server(*SMALL) as running:
        with Client(running.url, concurrency=32, timeout=60) as client:
            result = client.embed_many(photos)
        metrics = httpx.get(f"{running.url}/metrics").text
        assert re.search(r'rejected_total\{.*reason="overloaded".*\} [1-9]', metrics)
    assert_equal(result.vectors, result.errors, expected)
    assert len(refused) > 0


def test_a_kill_in_the_middle_is_outlasted(
    photos: list[bytes], expected: list[np.ndarray | int], refused: list[float]
) -> None:
    killed = threading.Event()

    def kill(done: int) -> None:
        if done == 100:
            first.process.kill()
            killed.set()

    with (
        server(*SMALL) as first,
        Client(first.url, concurrency=32, timeout=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        port = str(first.address[1])
        run = pool.submit(client.embed_many, iter(photos), progress=kill)
        assert killed.wait(60)
        first.wait()
        before = len(refused)
        until(lambda: len(refused) >= before + 32, timeout=60, what="connections refused", every=0.01)
        assert not run.done()
        with server("--port", port, *SMALL):
            result = run.result(100)
    assert_equal(result.vectors, result.errors, expected)


def test_a_unix_socket_is_an_address(photos: list[bytes], real_artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "service.sock"
    with server("--uds", str(path)), Client(f"unix:{path}", timeout=60) as client:
        until(path.exists, timeout=60, what="the socket")
        outcomes = client.classify_many(photos[:5])
    assert all(isinstance(outcome, Classification) for outcome in outcomes)


@pytest.mark.torture
@pytest.mark.timeout(1200)
def test_3000_photos_are_answered_beside_the_load_generator(real_artifact: Artifact) -> None:
    """With ``PHOTOS`` those of that folder, else variations of the twenty labelled ones.

    The shares are printed, for people: the goal is 0.9, but they depend on what else the machine does.
    """
    folder = os.environ.get("PHOTOS")
    bodies = synthetic.from_folder(Path(folder), 3000) if folder else photo_files.variations(photo_files.load(), 60)
    photos = [bodies[number % len(bodies)] for number in range(3000)]
    shares: list[float] = []
    with server("--no-access-log", *PATIENT) as running, Client(running.url, timeout=60) as client:
        prepared = requests(running.url, "/embed", photos, headers="Accept: application/octet-stream\r\n")
        for part in range(6):  # in turn, because a shared machine is faster at one time than at another
            chosen = photos[500 * part : 500 * (part + 1)]
            before = asyncio.run(closed_loop(running.url, prepared, concurrency=32, seconds=6)).rate
            began = time.perf_counter()
            result = client.embed_many(chosen)
            rate = len(chosen) / (time.perf_counter() - began)
            after = asyncio.run(closed_loop(running.url, prepared, concurrency=32, seconds=6)).rate
            assert result.errors == {}
            shares.append(2 * rate / (before + after))
    each = ", ".join(f"{share:.2f}" for share in shares)
    sys.stdout.write(f"median share of the load generator's rate: {np.median(shares):.2f} of {each}\n")
