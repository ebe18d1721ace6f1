"""What orchestrators and platforms write into the environment of a service, and which port it then has."""

from __future__ import annotations

import os

import pytest

from service.cli.environment import is_service_link
from service.cli.options import settings_from
from service.errors import OperatorError

IGNORED = "warning: ignored, because they describe a service to its neighbours: "


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MOBILENET_") or name in ("PORT", "AIP_HTTP_PORT"):
            monkeypatch.delenv(name)


def port_of(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], option: str | None = None) -> int:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return settings_from(port=option).port


OURS, VERTEX, PLATFORM = "MOBILENET_PORT", "AIP_HTTP_PORT", "PORT"
LINK = "tcp://10.0.0.1:80"


@pytest.mark.parametrize(
    ("variables", "option", "port"),
    [
        ({}, None, 8000),
        ({PLATFORM: "9001"}, None, 9001),
        ({VERTEX: "9002", PLATFORM: "9001"}, None, 9002),
        ({OURS: "9003", VERTEX: "9002", PLATFORM: "9001"}, None, 9003),
        ({OURS: "9003", VERTEX: "9002", PLATFORM: "9001"}, "9004", 9004),
        ({OURS: "", VERTEX: "", PLATFORM: "9001"}, None, 9001),
        ({OURS: "", VERTEX: "", PLATFORM: ""}, None, 8000),
        ({OURS: LINK, PLATFORM: "9001"}, None, 9001),
        ({OURS: LINK, VERTEX: LINK, PLATFORM: LINK}, None, 8000),
        ({OURS: "udp://10.0.0.1:53"}, None, 8000),
        ({OURS: "sctp://10.0.0.1:53"}, None, 8000),
        ({PLATFORM: "udp://10.0.0.1:53", VERTEX: "9002"}, None, 9002),
        ({OURS: LINK}, "9004", 9004),
        ({PLATFORM: "0"}, None, 0),
        ({PLATFORM: "nonsense"}, "9004", 9004),
        ({"port": "9001", "mobilenet_port": "9003"}, None, 9003),
    ],
    ids=str,
)
def test_the_port_is_that_of_the_nearest_source(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], option: str | None, port: int
) -> None:
    assert port_of(monkeypatch, variables, option) == port


@pytest.mark.parametrize(
    ("variables", "option", "named"),
    [
        ({OURS: "x"}, None, "MOBILENET_PORT: .*'x'"),
        ({VERTEX: "70000", PLATFORM: "9001"}, None, "AIP_HTTP_PORT: .*'70000'"),
        ({PLATFORM: "-1"}, None, "PORT: .*'-1'"),
        ({OURS: LINK, PLATFORM: "80a"}, None, "PORT: .*'80a'"),
        ({OURS: "", VERTEX: " "}, None, "AIP_HTTP_PORT: .*' '"),
        ({PLATFORM: "http://x"}, None, "PORT: .*'http://x'"),
        ({OURS: "9003"}, "x", "--port: .*'x'"),
    ],
    ids=str,
)
def test_a_wrong_port_is_blamed_on_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], option: str | None, named: str
) -> None:
    with pytest.raises(OperatorError, match=f"^{named}"):
        port_of(monkeypatch, variables, option)


def injected(service: str, *ports: str) -> dict[str, str]:
    """What Kubernetes tells every container of a namespace about the Service ``service`` (kubelet's envvars.go)."""
    name = service.upper().replace("-", "_")
    made = {f"{name}_SERVICE_HOST": "10.96.0.7", f"{name}_SERVICE_PORT": "8000", f"{name}_PORT": "tcp://10.96.0.7:8000"}
    for number, port in enumerate(ports):
        made[f"{name}_SERVICE_PORT_{port.upper().replace('-', '_')}"] = f"{8000 + number}"
    for number in range(max(1, len(ports))):
        link = f"{name}_PORT_{8000 + number}_TCP"
        made |= {link: f"tcp://10.96.0.7:{8000 + number}", f"{link}_PROTO": "tcp", f"{link}_PORT": f"{8000 + number}"}
        made[f"{link}_ADDR"] = "10.96.0.7"
    return made


@pytest.mark.parametrize("ports", [(), ("http",), ("http", "metrics-2")], ids=str)
@pytest.mark.parametrize("services", [("mobilenet",), ("mobilenet-model", "mobilenet"), ("mobilenet-api-keys",)])
def test_services_of_our_name_in_the_same_namespace_change_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], services: tuple[str, ...], ports: tuple[str]
) -> None:
    plain = settings_from()
    variables = {name: value for service in services for name, value in injected(service, *ports).items()}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings_from() == plain
    assert capsys.readouterr().err == f"{IGNORED}{', '.join(sorted(variables))}\n"


def test_settings_beside_such_variables_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = injected("mobilenet-max") | {"MOBILENET_MODEL": "mine", "MOBILENET_API_KEYS": "a,b", "PORT": "9001"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MOBILENET_MODELL", "mine")
    settings = settings_from()
    assert (settings.model, settings.api_keys, settings.port) == ("mine", ("a", "b"), 9001)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(IGNORED)
    assert second == "warning: MOBILENET_MODELL is set, but there is no such setting"


@pytest.mark.parametrize(
    ("name", "value"),
    [("MOBILENET_MODEL", "mine"), ("MOBILENET_UDS", "/run/tcp://x"), ("OTHER_PORT", LINK), ("PORT", "80"),
     ("MOBILENET_SERVICE_PORTS", "80"), ("MOBILENET_PORT_80_TCPS", "80")],
)  # fmt: skip
def test_what_is_no_such_variable_is_left_to_the_settings(name: str, value: str) -> None:
    assert not is_service_link(name, value)
