"""Replicas behind the balancer, under load: killed, scaled, replaced, stopped, out of memory."""

from __future__ import annotations

import io
import re
import signal
import socket
from collections.abc import Callable

import httpx
import pytest
from PIL import Image

from tests.containers.conftest import build
from tests.containers.docker import Stack, address, docker, inspect, metric, send_signal
from tests.containers.traffic import Traffic
from tests.running import png
from tests.waiting import until

Report = Callable[[str], None]


@pytest.fixture(autouse=True)
def three_in_rotation(stack: Stack) -> None:
    """Each test begins with three."""
    stack.up(3)
    stack.wait_for_rotation(3)


def test_requests_are_spread_over_all_replicas(stack: Stack, bodies: list[bytes], report: Report) -> None:
    before = stack.served()
    with Traffic(stack.url, bodies) as traffic:
        traffic.wait_for(300)
    shares = [count - before[replica] for replica, count in stack.served().items()]
    report(f"{traffic.statuses[200]} classified by three replicas: {shares}")
    assert traffic.failed == 0
    assert len(shares) == 3
    assert min(shares) > sum(shares) / 6


def test_a_replica_that_is_killed_costs_no_request(stack: Stack, bodies: list[bytes], report: Report) -> None:
    victim = stack.replicas()[0]
    restarts = inspect(victim)["RestartCount"]
    with Traffic(stack.url, bodies) as traffic:
        traffic.wait_for(100)
        send_signal(victim, signal.SIGKILL)
        until(lambda: inspect(victim)["RestartCount"] > restarts, timeout=30, what="the replica is started again")
        stack.wait_for_rotation(3)
        traffic.wait_for(100)
    traffic.all_answered(report, "kill -9 of a replica under load")


def test_scaling_up_and_down_costs_no_request(stack: Stack, bodies: list[bytes], report: Report) -> None:
    with Traffic(stack.url, bodies) as traffic:
        for replicas in (5, 2):
            traffic.wait_for(50)
            stack.up(replicas)
            stack.wait_for_rotation(replicas)
        traffic.wait_for(100)
    traffic.all_answered(report, "3 to 5 to 2 replicas under load")


def test_a_rolling_update_costs_no_request(
    stack: Stack, image: str, tag: str, bodies: list[bytes], report: Report
) -> None:
    following = f"{tag}:two"
    build(following, "--build-arg", "REVISION=two")
    old = set(stack.replicas())
    try:
        with Traffic(stack.url, bodies) as traffic:
            traffic.wait_for(50)
            stack.roll(following)
            stack.wait_for_rotation(3)
            traffic.wait_for(100)
        new = stack.replicas()
        assert {inspect(replica)["Config"]["Labels"]["org.opencontainers.image.revision"] for replica in new} == {"two"}
    finally:
        stack.roll(image)
        docker("image", "rm", "--force", following)
    traffic.all_answered(report, "rolling update of three replicas under load")
    assert len(new) == 3
    assert not old & set(new)


def test_a_stopped_replica_leaves_the_rotation_and_comes_back(
    stack: Stack, bodies: list[bytes], report: Report
) -> None:
    victim = stack.replicas()[0]
    with Traffic(stack.url, bodies, clients=24) as traffic:
        traffic.wait_for(50)
        send_signal(victim, signal.SIGSTOP)
        try:
            stack.wait_for_rotation(2)
            traffic.wait_for(100)
        finally:
            send_signal(victim, signal.SIGCONT)
        stack.wait_for_rotation(3)
        traffic.wait_for(100)
    traffic.all_answered(report, "SIGSTOP and SIGCONT of a replica under load")


def test_a_replica_out_of_memory_is_started_again_and_hurts_no_other(
    stack: Stack, bodies: list[bytes], report: Report
) -> None:
    others = stack.replicas()
    victim = others.pop(0)
    restarts = [inspect(replica)["RestartCount"] for replica in (victim, *others)]
    docker("update", "--memory", "256m", "--memory-swap", "256m", victim)
    photo = io.BytesIO()
    Image.new("RGB", (7000, 7000)).save(photo, "JPEG")  # 147 MB of pixels
    with Traffic(stack.url, bodies) as traffic:
        traffic.wait_for(50)
        with pytest.raises(httpx.TransportError):
            httpx.post(f"http://{address(victim)}:8000/classify", content=photo.getvalue(), timeout=60)
        until(lambda: inspect(victim)["RestartCount"] > restarts[0], timeout=30, what="the replica is started again")
        docker("update", "--memory", "1536m", "--memory-swap", "1536m", victim)
        stack.wait_for_rotation(3)
        traffic.wait_for(50)
    traffic.all_answered(report, "out-of-memory kill of a replica under load")
    assert [inspect(replica)["RestartCount"] for replica in others] == restarts[1:]


def test_a_slow_client_holds_no_replica(stack: Stack, bodies: list[bytes]) -> None:
    """The balancer waits for the rest of its body; a replica sees the request when it is complete."""
    before = sum(stack.served().values())
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(bodies[0])}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as client:
        client.sendall(head.encode() + bodies[0][:-1])
        for _ in range(10):
            assert [metric(replica, "mobilenet_in_flight") for replica in stack.replicas()] == [0, 0, 0]
        client.sendall(bodies[0][-1:])
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    assert sum(stack.served().values()) == before + 1


def test_errors_of_the_balancer_are_problems_too(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url) as client:
        answers = {413: client.post("/classify", content=bytes(16 * 2**20 + 1)), 404: client.get("/metrics")}
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


def test_the_largest_body_passes(stack: Stack) -> None:
    answer = httpx.post(f"{stack.url}/classify", content=bytes(16 * 2**20), timeout=30)
    assert answer.status_code == 415
    assert "content" in answer.json()["detail"]


def test_the_versions_of_an_image_cannot_be_promoted(stack: Stack) -> None:
    with pytest.raises(AssertionError, match="MOBILENET_MODEL_STORE=/mnt/model_store"):
        stack.promote("mobilenet_v2/1")


def test_the_page_and_a_class_map_come_through_the_balancer(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        page = client.get("/")
        assert page.status_code == 200
        files = re.findall(r'(?:src|href)="(page/[^"]+)"', page.text)
        assert len(files) > 20
        assert {client.get(f"/{file}").status_code for file in files} == {200}
        answer = client.post("/explain", content=png(7), headers={"Accept": "image/png"})
        assert answer.status_code == 200
        with Image.open(io.BytesIO(answer.content)) as drawing:
            assert drawing.size == (224, 224)
