"""A virtual environment for each peer, below ``.cache/peers``.

torch takes 5.5 GB, so it has an environment of its own, and so has OpenVINO. A ``.pth`` file makes one of the two
visible in a peer's environment, behind the peer's own packages. A stamp with the requirements is written last, so an
interrupted set-up is resumed, and one whose requirements have changed is repeated.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.peers.catalogue import Peer

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "peers"
HERE = Path(__file__).parent


def binaries(name: str) -> Path:
    return CACHE / name / "bin"


def requirements(peer: Peer) -> Path:
    return HERE / peer.folder / "requirements.txt"


def version(peer: Peer) -> str:
    """The version of the peer's package that its requirements name."""
    return dict(line.split("==") for line in requirements(peer).read_text().splitlines())[peer.package]


def prepare(peer: Peer) -> None:
    """Create what ``peer`` needs, unless it is there."""
    shared = _install(peer.runtime, HERE / f"{peer.runtime}.txt")
    site = _install(peer.name, requirements(peer))
    (site / "shared.pth").write_text(f"{shared}\n")


def _install(name: str, listed: Path) -> Path:
    """The environment's site-packages, with everything in ``listed``."""
    python, stamp = binaries(name) / "python", CACHE / name / "stamp"
    if not (stamp.is_file() and stamp.read_text() == listed.read_text()):
        sys.stderr.write(f"  installing {name} …\n")
        stamp.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(CACHE / name)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # The lists are complete; a resolver would not see torch yet and would install another.
        subprocess.run([*pip, "--no-deps", "--requirement", str(listed)], check=True)
        stamp.write_text(listed.read_text())
    (site,) = (CACHE / name).glob("lib/python*/site-packages")
    return site
