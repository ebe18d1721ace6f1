"""Faults of the runtime and of the decoder, in a server process: who is hurt, what is said, how it ends."""

from __future__ import annotations

import random
import re
import resource
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.process import ServerProcess, server
from tests.hostile.conftest import RecordFigure
from tests.hostile.faults import faulty
from tests.hostile.faults.faulty import GOOD, PROGRAM, QUICK
from tests.processes import tree
from tests.running import png
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def embed(client: httpx.Client, *bodies: bytes) -> httpx.Response:
    files = [("file", ("x.png", body)) for body in bodies]
    return client.post("/embed", params={"normalize": "false"}, files=files)


def marker(result: dict[str, Any]) -> int:
    """Of the image that this answer was computed from."""
    return int(result["embedding"][0]) + 256 * int(result["embedding"][1])


def until_ready(client: httpx.Client, status: int = 200, every: float = 0.1) -> None:
    """Or, with another ``status``, until it is not."""
    until(lambda: client.get("/readyz").status_code == status, timeout=30, what=f"{status} of /readyz", every=every)


def test_a_fault_hurts_the_image_that_asked_for_it_alone(tiny: list[str]) -> None:
    faults = [png(faulty.RAISES), png(faulty.NO_MEMORY), png(GOOD, faulty.NO_MEMORY_TO_DECODE)]
    bodies = [png(GOOD), faults[0], png(GOOD + 1), faults[1], faults[2], png(GOOD + 2)]
    with server(*tiny, program=PROGRAM) as running, running.client() as client:
        answer = embed(client, *bodies)
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert [result.get("error", {}).get("status") for result in results] == [None, 500, None, 500, 500, None]
        assert [marker(results[index]) for index in (0, 2, 5)] == [GOOD, GOOD + 1, GOOD + 2]
        for alone in faults:
            answer = embed(client, alone)
            assert answer.status_code == 500
            assert "/service" not in answer.text
        until_ready(client)
        assert embed(client, png(GOOD)).status_code == 200
        assert running.terminate() == 0


def test_a_decode_that_runs_out_of_real_memory_is_500_and_the_service_goes_on(tiny: list[str]) -> None:
    """The process may grow by 100 MB; an image of 49 megapixels needs twice that."""
    with server(*tiny, "--runtime", "openvino") as running, running.client() as client:
        assert client.post("/classify", content=png(GOOD)).status_code == 200
        statm = Path(f"/proc/{running.process.pid}/statm").read_text()
        size = int(statm.split()[0]) * resource.getpagesize()
        resource.prlimit(running.process.pid, resource.RLIMIT_AS, (size + 100_000_000, resource.RLIM_INFINITY))
        large = png(GOOD, 7000)
        for _ in range(3):
            assert client.post("/classify", content=large).status_code == 500
            assert client.post("/classify", content=png(GOOD)).status_code == 200
        assert client.get("/readyz").status_code == 200
        assert running.terminate() == 0
    assert "MemoryError" in running.output


def test_a_model_that_fails_for_good_ends_the_process(tiny: list[str]) -> None:
    with server(*tiny, program=PROGRAM, environment=QUICK) as running:
        with running.client() as client:
            assert client.post("/classify", content=png(faulty.BREAKS)).status_code == 500
            until_ready(client, 503)
            assert client.get("/readyz").json() == {"status": "failing"}
        # Nobody asks any more: the probe image is the engine's own.
        assert running.wait() == 71
    assert "error: the model fails on every image, the probe image included; see the log\n" in running.lines


def test_a_lost_device_ends_the_process(tiny: list[str]) -> None:
    with server(*tiny, program=PROGRAM) as running:
        with running.client() as client:
            assert client.post("/classify", content=png(faulty.LOSES)).status_code == 500
        assert running.wait() == 70
    assert "error: the device fell off the bus\n" in running.lines


def hang(running: ServerProcess, pool: ThreadPoolExecutor, *bodies: bytes) -> list[Future[httpx.Response]]:
    """Send ``bodies``, each in a request of its own, and return once all are admitted."""
    answers: list[Future[httpx.Response]] = []
    for body in bodies:
        answers.append(pool.submit(httpx.post, f"{running.url}/classify", content=body, timeout=60))
        until(lambda: tree.total(running, "mobilenet_in_flight") == len(answers), timeout=30, what="it is admitted")
    return answers


@pytest.mark.parametrize("body", [png(faulty.HANGS), png(GOOD, faulty.ENDLESS_TO_DECODE)], ids=["runtime", "decoder"])
def test_a_hang_turns_readiness_off_answers_who_waits_and_ends_the_process(
    tiny: list[str], pool: ThreadPoolExecutor, body: bytes
) -> None:
    with server(*tiny, "--runners", "1", program=PROGRAM, environment=QUICK) as running:
        answers = hang(running, pool, body, png(GOOD))
        with running.client() as client:
            until_ready(client, 503)
            assert client.get("/readyz").json() == {"status": "late"}
            assert client.get("/livez").status_code == 200
        assert running.wait() == 72
        assert [answer.result(30).status_code for answer in answers] == [503, 503]
    last = r"^error: runner-0 does not come back from threading.py:\d+ \(wait\)$"
    assert re.search(last, running.output, re.MULTILINE)
    assert "a thread is late thread=runner-0 at=threading.py" in running.output


def test_sigterm_ends_a_process_that_hangs(tiny: list[str], pool: ThreadPoolExecutor) -> None:
    """Long before the watchdog would: a drain has its own bound."""
    with server(*tiny, "--runners", "1", "--drain-timeout-ms", "1000", program=PROGRAM) as running:
        (answer,) = hang(running, pool, png(faulty.HANGS))
        assert running.terminate() == 0
        refused = answer.result(30)
        assert refused.status_code == 503
        assert refused.json()["title"] == "Shutting down"
    assert "the engine did not finish in time and was cut off" in running.output


def test_a_second_signal_ends_a_process_that_hangs_at_once(tiny: list[str], pool: ThreadPoolExecutor) -> None:
    with server(*tiny, "--runners", "1", program=PROGRAM) as running:
        (answer,) = hang(running, pool, png(faulty.HANGS))
        running.process.send_signal(signal.SIGTERM)
        until(lambda: "draining" in running.output, timeout=30, what="it drains")
        assert running.terminate() == 128 + signal.SIGTERM
        with pytest.raises(httpx.TransportError):
            answer.result(30)


@pytest.mark.torture
def test_how_long_a_hang_lasts(tiny: list[str], pool: ThreadPoolExecutor, record_figure: RecordFigure) -> None:
    """With the bounds that operators get: readiness goes after a second, the process ten ticks later."""
    with server(*tiny, "--runners", "1", program=PROGRAM) as running:
        (answer,) = hang(running, pool, png(faulty.HANGS))
        began = time.monotonic()
        with running.client() as client:
            until_ready(client, 503, every=0.005)
            late = time.monotonic() - began
        assert running.wait() == 72
        ended = time.monotonic() - began
        assert answer.result(30).status_code in (503, 504)
    record_figure("seconds from a hang to readiness off", f"{late:.1f}")
    record_figure("seconds from a hang to exit", f"{ended:.1f}")
    assert late < 3
    assert ended < 20


@pytest.mark.torture
def test_a_storm_of_faults_hurts_nobody_else(tiny: list[str], record_figure: RecordFigure) -> None:
    """Eight clients send forms of eight images, a quarter of them faulty, in random places."""
    forms_a_client = 150
    faults = [png(faulty.RAISES), png(faulty.NO_MEMORY), png(GOOD, faulty.NO_MEMORY_TO_DECODE), b"no image"]
    wanted = [500, 500, 500, 415]
    injected: list[int] = []
    hurt: list[str] = []
    good: list[int] = []

    def send(seed: int) -> None:
        chance = random.Random(seed)
        with running.client() as client:
            for _ in range(forms_a_client):
                kinds = [chance.randrange(4) if chance.random() < 0.25 else None for _ in range(8)]
                markers = [GOOD + chance.randrange(60_000) for _ in kinds]
                bodies = [png(m) if k is None else faults[k] for k, m in zip(kinds, markers, strict=True)]
                answer = embed(client, *bodies)
                if None not in kinds:
                    continue  # the first one's status is the whole answer's
                for kind, sent, result in zip(kinds, markers, answer.json()["results"], strict=True):
                    if kind is not None:
                        injected.append(kind)
                        assert result["error"]["status"] == wanted[kind]
                    elif "error" in result or marker(result) != sent:
                        hurt.append(str(result))
                    else:
                        good.append(sent)

    with server(*tiny, program=PROGRAM) as running:
        with ThreadPoolExecutor(8) as clients:
            list(clients.map(send, range(8)))
        with running.client() as client:
            until_ready(client)
        assert running.terminate() == 0
    record_figure("faults injected", str(len(injected)))
    record_figure("good images hurt by faults beside them", f"{len(hurt)} of {len(hurt) + len(good)}")
    assert hurt == []
