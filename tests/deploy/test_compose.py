"""The compose files, their variables and the service's settings agree."""

from __future__ import annotations

import re
from typing import Any

import yaml

from service.config import Settings
from tests.documents import ROOT, read

COMPOSE = read("docker-compose.yml")
EXAMPLE = dict(re.findall(r"^([A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE))


def variables(text: str) -> dict[str, str]:
    """Each ``${NAME:-default}`` of a file; a name with two defaults would be a slip of its own."""
    found: dict[str, str] = {}
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text):
        assert found.setdefault(name, default) == default, name
    return found


def test_the_example_lists_every_variable_with_its_default() -> None:
    wanted = variables(COMPOSE) | {"GPU_IDS": variables(read("docker-compose.gpu.yml"))["GPU_IDS"]}
    assert wanted == EXAMPLE


def test_no_variable_is_without_a_default() -> None:
    for path in [*ROOT.glob("docker-compose*.yml"), *ROOT.glob("deploy/*/*.yml")]:
        assert re.findall(r"(?<!\$)\$\{[A-Z_]+\}", path.read_text()) == [], path.name


def test_what_is_passed_on_are_settings() -> None:
    for name in [name for name in EXAMPLE if name.startswith("MOBILENET_")]:
        assert name.removeprefix("MOBILENET_").lower() in Settings.model_fields


def test_the_script_falls_back_to_the_same_images() -> None:
    for name, default in re.findall(r"\$\(setting ([A-Z_]+) (\S+)\)", read("deploy/compose/up.sh")):
        assert EXAMPLE[name] == default


def test_replicas_are_confined_and_limited() -> None:
    services: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
    replica = services["service"]
    assert replica["read_only"] is True
    assert replica["cap_drop"] == ["ALL"]
    assert replica["security_opt"] == ["no-new-privileges:true"]
    assert replica["user"] == "10001:10001"
    assert set(replica["deploy"]["resources"]) == {"limits", "reservations"}
    assert all("deploy" in services[name] for name in ("service", "balancer"))
    drain_s = Settings.model_fields["drain_timeout_ms"].default / 1000
    assert int(replica["stop_grace_period"].removesuffix("s")) > drain_s


def test_the_balancer_refuses_what_the_service_would() -> None:
    config = read("deploy/compose/haproxy.cfg")
    (limit,) = re.findall(r"req\.hdr_val\(content-length\) gt (\d+)", config)
    assert int(limit) == Settings.model_fields["max_body_bytes"].default
    (server_s,) = re.findall(r"timeout server (\d+)s", config)
    assert int(server_s) > Settings.model_fields["request_timeout_ms"].default / 1000
