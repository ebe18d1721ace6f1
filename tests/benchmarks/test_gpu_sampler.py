"""The profiler of ``benchmarks.gpu`` sees who works and who waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu import sampler
from tests.waiting import until


def busy(ended: threading.Event) -> None:
    total = 0
    while not ended.is_set():
        total += sum(range(1000))


def test_a_busy_thread_is_seen_and_an_idle_one_waits() -> None:
    ended = threading.Event()
    with ThreadPoolExecutor(1, "runner") as runners, ThreadPoolExecutor(1, "decode") as decoders:
        runners.submit(busy, ended)
        decoders.submit(ended.wait)
        try:
            # Where the sampler is not the main thread.
            with ThreadPoolExecutor(1, "sampler") as samplers:
                profile = samplers.submit(sampler.sample, 3.0).result()  # a busy machine lets it look rarely
        finally:
            ended.set()
    runner, decode = profile["runner"], profile["decode"]
    assert next(iter(runner["functions"])).startswith("busy benchmarks/test_gpu_sampler.py:")
    assert runner["waited"] < sum(runner["functions"].values())
    assert runner["cpu_s"] > 10 * decode["cpu_s"]
    assert decode["functions"] == {}
    assert decode["waited"] > 10
    assert profile["event loop"]["functions"] == {}  # waits for the sampler
    # The test runner may have threads of its own; the sampler does not count itself.
    others = profile["other"]["functions"] if "other" in profile else {}
    assert not any("sampler.py" in function for function in others)
    # The kernel counts a thread's time in hundredths of a second.
    assert profile["process"]["cpu_s"] >= runner["cpu_s"] - 0.02


def test_it_sleeps_until_a_signal_and_then_leaves_json(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    code = (
        "import asyncio, sys, uvloop; from pathlib import Path; from benchmarks.gpu import sampler;"
        "sampler.start(Path(sys.argv[1]), seconds=0.3);"
        "print('ready', flush=True); uvloop.run(asyncio.sleep(1000))"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        assert not path.exists()
        os.kill(process.pid, signal.SIGUSR1)
        until(path.exists, timeout=30, what="a profile")
        process.terminate()
    profile = json.loads(path.read_text())
    assert profile["event loop"]["threads"] == 1
    assert profile["event loop"]["waited"] > 5
