"""The parts of ``benchmarks.gpu`` under one budget: what they print arrives, and nothing outlives its time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import parts
from benchmarks.gpu.parts import Part
from benchmarks.processes import descendants
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent

PRINTS = "print('| a row |', flush=True); print('decides: it works', flush=True)"
FAILS = "print('before', flush=True); raise SystemExit('no such device')"
HANGS = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], process_group=0)
print('first row', flush=True)
time.sleep(1000)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('cut off in the mid', end='', flush=True)
time.sleep(1000)
"""
TELLS_LATE = """
import signal, time
def stop(number, frame):
    print('last words', flush=True)
    raise SystemExit
signal.signal(signal.SIGTERM, stop)
print('ready', flush=True)
time.sleep(1000)
"""

MAIN = """
from benchmarks.gpu import __main__ as program
from benchmarks.gpu.parts import Part
program.main({arguments!r}, [Part(*part) for part in {known!r}])
"""

MakePart = Callable[[str, str], Part]


@pytest.fixture
def make_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePart:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")

    def make(name: str, code: str) -> Part:
        (tmp_path / f"{name}_part.py").write_text(code)
        return Part(name, f"{name}_part", name.title(), 1.0)

    return make


class Run(NamedTuple):
    outcomes: dict[str, parts.Outcome]
    printed: list[str]
    seconds: float
    left: list[str]  # processes that are still there


#: In a process of its own, for it ends everybody below it.
RUN = """
import json, os, sys, time
from benchmarks.gpu import parts
from benchmarks.gpu.part import Options
from benchmarks.gpu.parts import Part
from benchmarks.processes import descendants
budget, margins, given = json.loads(sys.argv[1])
parts.MARGIN_S, parts.GRACE_S, parts._END_S = margins
started = time.monotonic()
printed = []
outcomes = parts.run([Part(*part) for part in given], Options("cpu"), budget, started, printed.append)
seconds = time.monotonic() - started
print(json.dumps([outcomes, "".join(printed), seconds, list(descendants(os.getpid()).values())]))
"""
SHORT = (0.1, 0.5, 0.2)


def run(*chosen: Part, budget: float, margins: tuple[float, float, float] = SHORT) -> Run:
    argument = json.dumps([budget, margins, chosen])
    done = subprocess.run([sys.executable, "-c", RUN, argument], stdout=subprocess.PIPE, timeout=60, check=True)
    outcomes, printed, seconds, left = json.loads(done.stdout)
    made = [parts.Outcome(Part(*part), *rest) for part, *rest in outcomes]
    return Run({outcome.part.name: outcome for outcome in made}, printed.splitlines(), seconds, left)


def test_each_part_costs_its_own_figures_only_and_all_end_in_time(make_part: MakePart) -> None:
    codes = {"hangs": HANGS, "fails": FAILS, "stubborn": STUBBORN, "late": TELLS_LATE, "prints": PRINTS}
    done = run(*(make_part(name, code) for name, code in codes.items()), budget=10.0)
    assert done.seconds < 10.0
    assert done.left == []  # the child of "hangs", in a group of its own, neither
    outcomes = {name: outcome.outcome for name, outcome in done.outcomes.items()}
    assert outcomes["prints"] == "ok"
    assert outcomes["fails"] == "failed: no such device"
    for name in ("hangs", "stubborn", "late"):
        assert outcomes[name].startswith("cut off after ")
    assert [outcome.decision for outcome in done.outcomes.values()] == ["", "", "", "", "it works"]
    # Also what a part says on being stopped.
    for line in ("## Hangs", "first row", "before", "cut off in the mid", "ready", "last words", "| a row |"):
        assert line in done.printed
    assert not any("decides" in line for line in done.printed)
    assert "**fails: failed: no such device**" in done.printed


def test_what_a_part_leaves_is_for_those_behind_it(make_part: MakePart) -> None:
    done = run(make_part("prints", PRINTS), make_part("stubborn", STUBBORN), budget=5.0)
    assert done.outcomes["prints"].seconds < 2.0
    assert done.outcomes["stubborn"].seconds > 2.5


def test_a_budget_that_is_used_up_skips(make_part: MakePart) -> None:
    done = run(make_part("prints", PRINTS), budget=1.0, margins=(2.0, 4.0, 1.0))
    assert done.outcomes["prints"].outcome == "skipped: the budget is used up"
    assert done.printed == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_with_the_outcome_so_far(
    make_part: MakePart, tmp_path: Path, number: signal.Signals
) -> None:
    hangs = make_part("hangs", HANGS)
    arguments = ["--device", "cpu", "--parts", "hangs", "--save", str(tmp_path / "out.md")]
    code = MAIN.format(arguments=arguments, known=[tuple(hangs)])
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, process_group=0)
    saved = tmp_path / "out.md"
    until(lambda: saved.exists() and "first row" in saved.read_text(), timeout=30, what="the part runs")
    members = list(descendants(process.pid))
    assert len(members) == 2
    process.send_signal(number)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "| hangs |" in printed
    assert "interrupted" in printed
    assert printed == saved.read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in members)


def test_the_report_says_what_it_is_no_figure_of(make_part: MakePart) -> None:
    known = [tuple(make_part("prints", PRINTS)), tuple(make_part("fails", FAILS))]
    done = subprocess.run(
        [sys.executable, "-c", MAIN.format(arguments=["--device", "cpu", "--parts", "prints"], known=known)],
        stdout=subprocess.PIPE, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "none of its figures says anything about a GPU" in done.stdout
    assert "| prints | " in done.stdout
    assert "* it works\n" in done.stdout
    assert "fails" not in done.stdout


def test_parts_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        program.main(["--device", "cpu", "--parts", "start,nothing"])
    assert end.value.code == 2
    assert "unknown parts: nothing" in capsys.readouterr().err


def test_importing_the_program_imports_no_torch() -> None:
    code = (
        "import sys, benchmarks.gpu.__main__, benchmarks.gpu.served; assert not {'torch', 'openvino'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
