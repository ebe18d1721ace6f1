"""Part ``http``: JPEGs over HTTP, worker processes before one engine against replicas of a single process.

Closed loop from processes of its own; connections go to replicas in turn. Servers are started by ``sampler``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu import part, sampler
from benchmarks.gpu.generator import Generator
from benchmarks.gpu.part import Options, decide, say, say_table
from benchmarks.gpu.sampler import Profile
from benchmarks.load import Sample
from benchmarks.processes import Cpu, Server, descendants, output
from service.host.cores import available_cores

_GENERATORS = 3
_WARM_UP_S, _MEASURE_S = 0.5, 2.0
#: Profiling begins this long after the load.
_PROFILE_AFTER_S = 0.3
#: A start is expected to take this long before one was seen; a stop is cut short after ``_STOP_S``.
_START_S, _STOP_S = 15.0, 5.0
#: The ratio from which many processes are worth their code.
_WORTH = 1.3
_TOP = 12


class Configuration(NamedTuple):
    workers: int = 0
    replicas: int = 1
    profiled: bool = False

    def __str__(self) -> str:
        return f"--workers {self.workers}" if self.workers else f"R = {self.replicas}"


CONFIGURATIONS = (
    Configuration(workers=12, profiled=True),
    Configuration(replicas=8, profiled=True),
    Configuration(workers=16),
    Configuration(workers=8),
    Configuration(replicas=4),
    Configuration(replicas=1),
    Configuration(workers=4),
)
SMOKE = (Configuration(workers=2, profiled=True), Configuration(replicas=2, profiled=True))


class Used(NamedTuple):
    """Seconds of processor time."""

    loops: float  # main threads of workers or replicas
    others: float  # their other threads
    engine: float
    generator: float


class Measured(NamedTuple):
    configuration: Configuration
    concurrency: int
    ready: float  # seconds from the start
    sample: Sample
    batch: float  # mean
    memory: float  # MiB of the card; 0 where there is none
    used: Used

    @property
    def row(self) -> list[str]:
        answered = max(1, self.sample.statuses[200])
        return [
            str(self.configuration),
            str(self.concurrency),
            f"{self.ready:.1f}",
            f"{self.sample.rate:.0f}",
            *(f"{self.sample.percentile(share) * 1e3:.1f}" for share in (50, 99)),
            f"{self.batch:.1f}",
            f"{self.memory:.0f}",
            *(f"{seconds / answered * 1e3:.2f}" for seconds in self.used),
            str(len(self.sample.refusals)),
        ]


HEAD = ["", "at once", "ready, s", "requests/s", "p50, ms", "p99, ms", "mean batch", "card, MiB"]
HEAD += ["loops, CPU ms/image", "decoders", "engine", "generator", "not 200"]


class Group:
    """The servers of one configuration."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self.urls = [server.url for server in servers]
        self.ready = max(server.start_seconds for server in servers)

    def processes(self) -> dict[str, list[int]]:
        """Process ids of workers or replicas, and of engines."""
        servers = [server.process.pid for server in self.servers]
        below = [member for pid in servers for member in descendants(pid).items()]
        engines = [pid for pid, name in below if name.startswith("mnet-engine")]
        workers = [pid for pid, name in below if name.startswith("mnet-worker")]
        return {"front": workers or servers, "engine": engines}

    def batches(self) -> tuple[float, float]:
        """Images and batches since the start."""
        text = "\n".join(server.text("/metrics") for server in self.servers)
        images, count = (
            sum(float(value) for value in re.findall(rf"^mobilenet_batch_size_{kind}(?:{{.*}})? (\S+)$", text, re.M))
            for kind in ("sum", "count")
        )
        return images, count


@contextmanager
def started(configuration: Configuration, options: Options, folder: Path, limit: float) -> Iterator[Group]:
    arguments = ["--device", options.device, "--runtime", "torch", "--precision", options.precision]
    if configuration.workers:
        arguments += ["--workers", str(configuration.workers)]
    else:
        arguments += ["--decode-threads", str(max(2, available_cores() // configuration.replicas))]

    def start() -> Server:
        return Server(
            *arguments,
            program=("-m", options.program),
            variables={sampler.PROFILES: str(folder)},
            start_limit=limit,
            stop_limit=_STOP_S,
        )

    with ThreadPoolExecutor(configuration.replicas) as threads:
        futures = [threads.submit(start) for _ in range(configuration.replicas)]
        try:
            yield Group([future.result() for future in futures])
        finally:
            servers = [future.result() for future in futures if future.exception() is None]
            list(threads.map(Server.stop, servers))


def measure(
    configuration: Configuration, group: Group, generator: Generator, concurrency: int, memory: float
) -> Measured:
    generator.run(group.urls, concurrency, _WARM_UP_S)
    processes = group.processes()
    images, batches = group.batches()
    before = _used(processes, generator)
    sample = generator.run(group.urls, concurrency, _MEASURE_S)
    after = _used(processes, generator)
    images, batches = (now - then for now, then in zip(group.batches(), (images, batches), strict=True))
    used = Used(*(now - then for now, then in zip(after, before, strict=True)))
    return Measured(configuration, concurrency, group.ready, sample, images / batches if batches else 0.0, memory, used)


def _used(processes: dict[str, list[int]], generator: Generator) -> Used:
    front = [Cpu.of(pid) for pid in processes["front"]]
    return Used(
        sum(cpu.main_thread for cpu in front),
        sum(cpu.other_threads for cpu in front),
        sum(sum(Cpu.of(pid)) for pid in processes["engine"]),
        sum(sum(Cpu.of(pid)) for pid in generator.pids),
    )


def profile(group: Group, generator: Generator, concurrency: int, folder: Path) -> None:
    """One worker or replica, and the engine if it is a process of its own."""
    processes = group.processes()
    chosen = {"a worker" if processes["engine"] else "a replica": processes["front"][0]}
    if processes["engine"]:
        chosen["the engine"] = processes["engine"][0]
    for pid in chosen.values():
        threading.Timer(_PROFILE_AFTER_S, os.kill, (pid, signal.SIGUSR1)).start()
    generator.run(group.urls, concurrency, sampler.SECONDS + 2 * _PROFILE_AFTER_S)
    for name, pid in chosen.items():
        path = folder / f"{pid}.json"
        waited = time.monotonic()
        while not path.exists() and time.monotonic() - waited < 2:
            time.sleep(0.05)
        if path.exists():
            _say_profile(f"{name} at {concurrency} at once", json.loads(path.read_text()))
        else:
            say(f"{name} left no profile\n")


def _say_profile(name: str, profile: Profile) -> None:
    whole = profile.pop("process")
    python = sum(group["cpu_s"] for group in profile.values())
    say(
        f"Profile of {name}: {whole['cpu_s']:.2f} s of processor time in {whole['seconds']:.1f} s, "
        f"{whole['cpu_s'] - python:.2f} s of it in threads that Python does not know.\n"
    )
    rows = []
    for group, values in profile.items():
        functions: dict[str, int] = values["functions"]
        total = values["waited"] + sum(functions.values())
        if not total or (group == "other" and not functions):
            continue
        head = f"**{group}**: {values['threads']} threads, {values['cpu_s']:.2f} s of processor time"
        rows.append([head, f"{values['waited'] / total:.1%} waiting"])
        rows += [[f"`{function}`", f"{count / total:.1%}"] for function, count in list(functions.items())[:_TOP]]
    say_table(["", "of samples"], rows)


def card_memory() -> float:
    """MiB that are in use on the first card; 0 without one."""
    used = output("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
    number = re.match(r"\d+", used)
    return float(number[0]) if number else 0.0


def main(options: Options, deadline: float) -> None:
    members = 1 if options.smoke else _GENERATORS
    configurations = SMOKE if options.smoke else CONFIGURATIONS
    concurrencies = (4, 16) if options.smoke else (64, 256)
    say(
        f"{options.precision}; closed loop from {members} processes, {_MEASURE_S:.0f} s each after {_WARM_UP_S} s; "
        "the card's memory once all are ready.\n"
    )
    results: list[Measured] = []
    begin, idle_memory = _START_S, card_memory()
    with ProcessPoolExecutor(members, mp_context=get_context("spawn")) as pool, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generator = Generator(pool, folder, part.jpegs(options), members)
        for configuration in configurations:
            work = len(concurrencies) * (_WARM_UP_S + _MEASURE_S + 0.5)
            work += (sampler.SECONDS + 1.5) * configuration.profiled
            needed = begin + work + 2.0
            left = deadline - time.monotonic()
            if left < needed:
                say(f"{configuration}: skipped, {left:.0f} s are left and about {needed:.0f} s would be needed\n")
                continue
            try:
                with started(configuration, options, folder, left - work) as group:
                    begin = max(group.ready, 0.7 * begin)
                    memory = card_memory() - idle_memory
                    rows = [measure(configuration, group, generator, at_once, memory) for at_once in concurrencies]
                    say_table(HEAD, [row.row for row in rows])
                    results += rows
                    decide(decision(results))
                    if configuration.profiled:
                        profile(group, generator, concurrencies[-1], folder)
            except Exception as error:
                say(f"{configuration}: failed: {error or type(error).__name__}\n")
        say("All of them:\n")
        say_table(HEAD, [result.row for result in results])


def decision(results: Sequence[Measured]) -> str:
    kinds = [[result for result in results if bool(result.configuration.workers) is many] for many in (True, False)]
    best = [max(kind, key=lambda result: result.sample.rate) for kind in kinds if kind]
    known = ", ".join(
        f"{result.configuration} at {result.concurrency} at once {result.sample.rate:.0f} requests/s" for result in best
    )
    if len(best) < 2:
        return f"Is --workers N ≥ {_WORTH} × R replicas? Not both were measured: {known}."
    ratio = best[0].sample.rate / best[1].sample.rate
    answer = "yes" if ratio >= _WORTH else "no"
    return f"Is --workers N ≥ {_WORTH} × R replicas anywhere? {answer}, {ratio:.2f} ×: {known}."


if __name__ == "__main__":
    part.run(main)
