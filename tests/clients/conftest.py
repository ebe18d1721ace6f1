"""A small model, and the service with it behind proxies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from tests.artifacts import make_artifact
from tests.browser.conftest import browser, new_visit
from tests.clients.proxies import proxying
from tests.e2e.process import PATIENT, ServerProcess, server
from tests.requirements import missing
from tests.waiting import until

__all__ = ["browser", "new_visit"]  # fixtures

if find_spec("playwright") is None:
    collect_ignore_glob = ["test_chromium_*.py"]  # browser/test_installed says why


def program(name: str) -> str:
    """Where it is installed."""
    found = shutil.which(name)
    if found is None:
        missing(f"no {name} is on the PATH", required_by="REQUIRE_CLIENTS")
    return found


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that serve a small model."""
    store = tmp_path_factory.mktemp("store")
    make_artifact(store, width_mult=0.1)
    return ["--model-store", str(store), "--model", "tiny", *PATIENT]


@dataclass(frozen=True)
class Proxied:
    url: str  # of the service, at the proxy
    service: ServerProcess


@pytest.fixture(scope="module", params=["nginx", "nginx-unix", "haproxy"])
def proxied(
    request: pytest.FixtureRequest, tiny: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    """The service behind a proxy that it trusts."""
    name, _, unix = request.param.partition("-")
    proxy = program(name)
    folder = tmp_path_factory.mktemp("proxied")
    listen = ["--uds", str(folder / "service")] if unix else []
    with server(*tiny, *listen, "--forwarded-allow-ips", "127.0.0.1", "--log-format", "json") as service:
        until(lambda: "ready in" in service.output, timeout=60, what="the service is ready")
        upstream = f"unix:{folder}/service:" if unix else service.url.removeprefix("http://")
        with proxying(proxy, upstream, folder) as url:
            yield Proxied(url, service)
