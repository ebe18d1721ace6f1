"""``make compose-promote`` with three replicas under load: one after the other, or none.

There are fewer clients than replicas: a version is compared while no photo waits, so a saturated replica refuses.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.model.aliases import ALIASES, Aliases, Canary, read
from service.model.artifact import Artifact, load
from tests.containers.conftest import stack_of
from tests.containers.docker import Stack, docker, inspect, records, send_signal
from tests.containers.traffic import Traffic
from tests.e2e.test_versions import permuted, scaled, variant
from tests.waiting import until

Report = Callable[[str], None]

NAME = "mobilenet_v2"
CLIENTS = 2


@pytest.fixture(scope="module")
def store(real_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1, version 2, which agrees on every class, and one whose classes are permuted. Replicas may read it."""
    path = tmp_path_factory.mktemp("promote") / "store"
    shutil.copytree(real_artifact.directory, path / NAME / "1")
    artifact = load(path, NAME, "1")
    variant(artifact, "2", scaled(1.05))
    variant(artifact, "bad", permuted)
    return path


@pytest.fixture(scope="module")
def running(image: str, tag: str, store: Path) -> Iterator[Stack]:
    variables = {"MODEL_STORE": str(store), "MOBILENET_MODEL_STORE": "/mnt/model_store"}
    with stack_of(3, f"{tag}-promote", image, **variables) as running:
        yield running


@pytest.fixture(autouse=True)
def version_1_is_stable(running: Stack, store: Path) -> None:
    """Each test begins with it, as if nothing had ever been promoted."""
    (store / ALIASES).unlink(missing_ok=True)
    for replica in running.replicas():
        read_again(replica)
    running.wait_for_rotation(3)


def served(replica: str) -> Aliases | None:
    """What its operator is told; None while nobody answers there yet."""
    report = json.loads(docker("exec", replica, "mobilenet-service", "models", "status", "--json"))
    if not report["services"]:
        return None
    (service,) = report["services"]
    model: dict[str, Any] = service["models"][NAME]
    canary = model["canary"] and Canary(model["canary"]["version"], model["canary"]["percent"])
    assert model["shadow"] is None
    return Aliases(model["stable"], canary)


def serving(replica: str, aliases: Aliases) -> Callable[[], bool]:
    return lambda: served(replica) == aliases


def read_again(replica: str) -> None:
    """By SIGHUP, without a file; until it has."""
    before = changes(replica)
    docker("exec", replica, "sh", "-c", "kill -HUP 1")
    until(lambda: changes(replica) > before, timeout=60, what="the replica has read again")
    assert served(replica) == Aliases("1")


def changes(replica: str) -> int:
    """How many the service has logged."""
    return sum(record["message"].startswith("change of the served versions") for record in records(replica))


def test_a_promotion_costs_no_request(running: Stack, store: Path, bodies: list[bytes], report: Report) -> None:
    with Traffic(running.url, bodies, clients=CLIENTS) as traffic:
        traffic.wait_for(50)
        running.promote(f"{NAME}/2")
        traffic.wait_for(100)
    traffic.all_answered(report, "promotion of a version in three replicas under load")
    assert [served(replica) for replica in running.replicas()] == [Aliases("2")] * 3
    assert read(store) == {NAME: Aliases("2")}
    answer = httpx.post(f"{running.url}/classify", content=bodies[0], timeout=30).json()
    assert (answer["model"], answer["version"]) == (NAME, "2")


def test_a_canary_of_replicas_that_have_no_aliases_yet(running: Stack, store: Path) -> None:
    running.promote(f"{NAME}/2", CANARY="10")
    wanted = Aliases("1", Canary("2", 10))
    assert [served(replica) for replica in running.replicas()] == [wanted] * 3
    assert read(store) == {NAME: wanted}
    replacement = running.replicas()[0]
    docker("restart", replacement)
    running.wait_for_rotation(3)
    until(serving(replacement, wanted), timeout=60, what="one that starts later reads the file")


def test_the_first_refusal_spares_the_other_replicas(running: Stack, store: Path) -> None:
    first, *others = running.replicas()
    first_name = inspect(first)["Name"].removeprefix("/")
    before = [changes(replica) for replica in others]
    with pytest.raises(AssertionError, match=rf"(?s)refused: .*{first_name} does not serve {NAME}/bad"):
        running.promote(f"{NAME}/bad")
    assert [changes(replica) for replica in others] == before
    assert served(first) == Aliases("1")
    assert read(store) == {}


def test_replicas_that_had_accepted_go_back(running: Stack, store: Path, bodies: list[bytes], report: Report) -> None:
    first, second, _ = running.replicas()
    before = changes(first)
    send_signal(second, signal.SIGSTOP)
    try:
        running.wait_for_rotation(2)  # from here on, no request waits in it
        with Traffic(running.url, bodies, clients=1) as traffic:
            with pytest.raises(AssertionError, match="gave no answer"):
                running.promote(f"{NAME}/2")
            assert changes(first) == before + 2
            assert served(first) == Aliases("1")
    finally:
        send_signal(second, signal.SIGCONT)
    traffic.all_answered(report, "a promotion that one of three replicas ends")
    assert [served(replica) for replica in running.replicas()] == [Aliases("1")] * 3
    assert read(store) == {}
