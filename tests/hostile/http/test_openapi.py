"""Schemathesis makes requests out of the OpenAPI document, valid ones and not: no 5xx, no status, type, header or body
that the document does not declare."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.conftest import RecordFigure
from tests.hostile.http.conftest import serving

ROOT = Path(__file__).parents[3]
KEY = "a-key"


def fuzz(tiny: list[str], folder: Path, *options: str) -> int:
    """Cases made; fails with Schemathesis's own report."""
    with serving(*tiny, "--max-images", "4", "--protect-metrics", environment={"MOBILENET_API_KEYS": KEY}) as running:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json", "--no-color"),
            *("--header", f"Authorization: Bearer {KEY}"),
            # Out of a schema's reach: that an image must be one. And the header above is put into every request, those
            # that are to do without it too; 'ignored_auth' really leaves it out.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance,missing_required_header"),
            *options,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.hostile.http.hooks"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    made = re.search(r"Test cases:\n\s+(\d+) generated", done.stdout)
    assert made is not None, done.stdout
    return int(made[1])


@pytest.mark.extra
def test_what_the_document_declares_is_all_there_is(tiny: list[str], tmp_path: Path) -> None:
    assert fuzz(tiny, tmp_path, "--max-examples", "30", "--generation-deterministic") > 100


@pytest.mark.torture
def test_thousands_of_requests_from_the_document(tiny: list[str], tmp_path: Path, record_figure: RecordFigure) -> None:
    made = fuzz(tiny, tmp_path, "--max-examples", "3000")
    record_figure("Schemathesis cases, violations", f"{made}, 0")
