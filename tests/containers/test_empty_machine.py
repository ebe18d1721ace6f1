"""A machine that has never seen this: Debian with git, make and python3-venv, a clone, and what the README says.

``make torture ARGS=tests/containers/test_empty_machine.py``. Each machine installs from nothing: a minute each, and one
with torch.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from tests.containers.docker import docker
from tests.documents import ROOT
from tests.running import png
from tests.waiting import until

pytestmark = pytest.mark.torture

Report = Callable[[str], None]

BARE = "debian:bookworm-slim"
PACKAGES = "git make python3-venv"
CLONE = "/home/person/a clone/mobilenet-service"

#: What ``curl --data-binary`` does, on a machine without curl.
_POST = """
import sys, urllib.request
asked = urllib.request.Request(sys.argv[1], open("/tmp/photo.png", "rb").read(), {"Content-Type": "image/png"})
print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30).read().decode())
"""

_READY = "python3 -c 'import urllib.request; urllib.request.urlopen(\"http://127.0.0.1:8001/readyz\")'"


class Machine(NamedTuple):
    """A container of ``PACKAGES`` and a photo, with a person who is not root."""

    name: str

    def sh(self, command: str, *, user: str = "person", folder: str = "/home/person", timeout: float = 900) -> str:
        """What ``command`` prints; AssertionError with it if it fails."""
        done = self._do(command, user, folder, timeout)
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def fails(self, command: str, *, folder: str = CLONE, timeout: float = 600) -> str:
        done = self._do(command, "person", folder, timeout)
        assert done.returncode != 0, done.stdout[-4000:]
        return done.stdout

    def serve(self, folder: str = CLONE, before: str = "") -> None:
        """``make serve`` in the background, to its end or until it is ready; its output is in /tmp/serve.log."""
        command = f"{before} make serve >/tmp/serve.log 2>&1; echo $? >/tmp/serve.end"
        docker("exec", "--detach", "--user", "person", "--workdir", folder, self.name, "bash", "-c", command)
        self.wait_until_ready()

    def does(self, command: str) -> bool:
        """Whether it succeeds."""
        return self._do(command, "person", "/", 20).returncode == 0

    def wait_until_ready(self) -> None:
        over = "test -e /tmp/serve.end || grep -q ', ready in ' /tmp/serve.log"
        until(lambda: self.does(over), timeout=900, what="ready, or ended", every=0.5)
        log = self.sh("cat /tmp/serve.log")
        assert ", ready in " in log, log[-4000:]

    def classify(self, port: int = 8000) -> str:
        return self.sh(f"python3 -I -c {shlex.quote(_POST)} http://127.0.0.1:{port}/classify?top_k=1")

    def received(self) -> int:
        """Bytes that have come over its network."""
        line = next(line for line in self.sh("cat /proc/net/dev").splitlines() if "eth0" in line)
        return int(line.split(":")[1].split()[0])

    def _do(self, command: str, user: str, folder: str, timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "exec", "--user", user, "--workdir", folder, self.name, "bash", "-c", command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def prepared(engine: None, tag: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of such a machine: the packages, the origin to clone from, a photo, no clone yet."""
    origin = tmp_path_factory.mktemp("origin") / "origin.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(origin)], check=True)
    photo = origin.parent / "photo.png"
    photo.write_bytes(png(3))
    name = f"{tag}-empty"
    docker("run", "--detach", "--name", name, BARE, "sleep", "infinity")
    try:
        machine = Machine(name)
        began = time.monotonic()
        machine.sh(f"apt-get update -qq && apt-get install -y -qq {PACKAGES} >/dev/null", user="root", folder="/")
        machine.sh("useradd --create-home --shell /bin/bash person", user="root", folder="/")
        print(f"{PACKAGES}: {time.monotonic() - began:.0f} s")  # noqa: T201  # shown with -s
        docker("cp", str(origin), f"{name}:/origin.git", timeout=120)
        docker("cp", str(photo), f"{name}:/tmp/photo.png")
        machine.sh("chmod -R a+rX /origin.git /tmp/photo.png", user="root", folder="/")
        # As it was copied it belongs to nobody here.
        machine.sh("git config --system --add safe.directory /origin.git", user="root", folder="/")
        docker("commit", name, f"{tag}:empty", timeout=120)
    finally:
        docker("rm", "--force", name)
    yield f"{tag}:empty"
    docker("image", "rm", "--force", f"{tag}:empty")


@contextmanager
def machine_of(image: str, *options: str) -> Iterator[Machine]:
    name = docker("run", "--detach", "--init", *options, image, "sleep", "infinity")
    try:
        yield Machine(name)
    finally:
        docker("rm", "--force", name, timeout=120)


@pytest.fixture
def machine(prepared: str) -> Iterator[Machine]:
    with machine_of(prepared) as made:
        yield made


@pytest.fixture
def cloned(machine: Machine) -> Machine:
    machine.sh(f"git clone --quiet file:///origin.git '{CLONE}'")
    return machine


def test_from_a_clone_to_the_first_classified_photo(cloned: Machine, report: Report) -> None:
    began, before = time.monotonic(), cloned.received()
    cloned.serve()
    answer = cloned.classify()
    took, received = time.monotonic() - began, cloned.received() - before
    assert '"predictions"' in answer
    sizes = cloned.sh(f"du -sm '{CLONE}/.venv' '{CLONE}/model_store'")
    lines = (line.split(maxsplit=1) for line in sizes.splitlines())
    shown = ", ".join(f"{path.rsplit('/', 1)[-1]} {size} MB" for size, path in lines)
    report(f"make serve to the first answer in {took:.0f} s, {received / 1e6:.0f} MB received; {shown}")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("target", "environment"), [("test", ".venv-test"), ("test-all", ".venv")])
def test_the_tests_on_an_empty_machine(cloned: Machine, report: Report, target: str, environment: str) -> None:
    began, before = time.monotonic(), cloned.received()
    said = cloned.sh(f"make {target}", folder=CLONE, timeout=3500)
    took, received = time.monotonic() - began, cloned.received() - before
    (summary,) = re.findall(r"=+ (.*passed.*) =+", said)
    sizes = cloned.sh(f"du -sm '{CLONE}/{environment}'")
    figures = f"{took:.0f} s, {received / 1e6:.0f} MB received, {environment} {sizes.split()[0]} MB"
    report(f"make {target} in {figures}: {summary}")
    report("\n".join(line for line in said.splitlines() if line.startswith("SKIPPED")))


def test_an_old_python_comes_first(cloned: Machine) -> None:
    """One that says it is 3.9: another is asked for, and taken when it is named."""
    shim = """
mkdir -p /tmp/old; cat >/tmp/old/python3 <<'END'
#!/bin/sh
case "$1" in
  --version) echo "Python 3.9.2" ;;
  *) exec /usr/bin/python3 -c 'import sys; sys.version_info = (3, 9, 2); exec(sys.argv[2])' "$@" ;;
esac
END
chmod +x /tmp/old/python3"""
    cloned.sh(shim)
    said = cloned.fails("PATH=/tmp/old:$PATH make serve")
    assert "Python 3.11 or newer is needed; this is Python 3.9.2. Name another: make PYTHON=python3.12" in said
    cloned.sh("PATH=/tmp/old:$PATH make install PYTHON=/usr/bin/python3", folder=CLONE)


def test_without_venv(cloned: Machine) -> None:
    cloned.sh("rm -rf /usr/lib/python3.11/ensurepip", user="root")
    said = cloned.fails("make serve")
    assert "Python's venv module is needed (Debian and Ubuntu: apt-get install python3-venv)." in said
    assert "Traceback" not in said


def test_a_home_that_cannot_be_written(prepared: str) -> None:
    with machine_of(prepared) as made:
        made.sh(
            "mkdir /srv/work && chown person /srv/work && chmod 0555 /home/person && chown root /home/person",
            user="root",
        )
        made.sh("git clone --quiet file:///origin.git /srv/work/clone", folder="/srv/work")
        made.serve("/srv/work/clone")
        assert '"predictions"' in made.classify()


def test_no_ipv6(prepared: str) -> None:
    with machine_of(prepared, "--sysctl", "net.ipv6.conf.all.disable_ipv6=1") as made:
        made.sh(f"git clone --quiet file:///origin.git '{CLONE}'")
        made.serve()
        assert '"predictions"' in made.classify()


def test_a_proxy_variable_that_leads_nowhere(cloned: Machine) -> None:
    """Installing says so; serving what is installed needs no network."""
    proxy = "http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9"
    said = cloned.fails(f"{proxy} PIP_RETRIES=0 PIP_NO_INDEX= make serve", timeout=300)
    assert "do http_proxy and https_proxy lead somewhere?" in said
    cloned.sh("make install", folder=CLONE)
    cloned.serve(before=proxy)
    assert '"predictions"' in cloned.classify()


def test_a_port_that_is_taken(cloned: Machine) -> None:
    cloned.serve()
    said = cloned.fails("make serve")
    assert "error: " in said
    assert "8000" in said
    assert "Traceback" not in said
    docker("exec", "--detach", "--user", "person", "--workdir", CLONE, cloned.name, "make", "serve", "PORT=8001")
    until(lambda: cloned.does(_READY), timeout=60, what="ready on the other port")
    assert '"predictions"' in cloned.classify(8001)


def test_a_path_with_spaces_and_as_root(machine: Machine) -> None:
    machine.sh("git clone --quiet file:///origin.git '/root/my photos/the service'", user="root", folder="/")
    command = "cd '/root/my photos/the service' && make serve >/tmp/serve.log 2>&1; echo $? >/tmp/serve.end"
    docker("exec", "--detach", machine.name, "bash", "-c", command)
    machine.wait_until_ready()
    assert '"predictions"' in machine.classify()


def test_a_clone_on_a_disk_that_is_full(prepared: str) -> None:
    with machine_of(prepared, "--tmpfs", "/small:size=60m,uid=1000") as made:
        made.sh("git clone --quiet file:///origin.git /small/clone", folder="/small")
        said = made.fails("make serve", folder="/small/clone")
        assert "No space left on device" in said
