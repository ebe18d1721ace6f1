"""A process that shares its metrics and is told over a pipe what to do."""

from __future__ import annotations

import os
import random
import signal
import time
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from service import metrics
from service.metrics import Metrics
from tests.scrape import samples

MODEL = 'model="tiny",version="1"'
DEPTH = f"mobilenet_queue_depth{{{MODEL}}}"
REQUESTS = 'mobilenet_requests_total{code="200",endpoint="classify"}'


class Process:
    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        metrics.share(directory, name)
        self._metrics = Metrics()

    def count(self, requests: int) -> None:
        for _ in range(requests):
            self._metrics.requests.labels("classify", "200").inc()
            self._metrics.batch_size.labels("tiny", "1").observe(4)

    def hold(self, images: float) -> None:
        self._metrics.watch(self._metrics.queue_depth.labels("tiny", "1"), lambda: images)
        self._metrics.ready.set(float(images > 0))
        self._metrics.sample()

    def work(self, seconds: float) -> float:
        """Use so much of a processor, then let it be seen; what has been used since the start."""
        ends = time.process_time() + seconds
        while time.process_time() < ends:
            pass
        self._metrics.sample()
        return time.process_time()

    def render(self) -> dict[str, float]:
        return samples(self._metrics.render().decode())

    def storm(self, deaths: int) -> list[float]:
        """Requests that are seen while another process counts them, dies at any moment and is started again."""
        seen = []
        for life in range(deaths):
            child = os.fork()
            if not child:
                # Nobody handles the signal: the kernel ends the process between any two instructions.
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.03))
                self._update(life)
            while os.waitpid(child, os.WNOHANG)[0] == 0:
                seen.append(self.render().get(REQUESTS, 0.0))
            seen.append(self.render().get(REQUESTS, 0.0))
        return seen

    def _update(self, life: int) -> NoReturn:
        """For ever: known series, and a few new ones, which let the files grow."""
        metrics.share(self._directory, "restarted")
        own = Metrics()
        for turn in count():
            own.requests.labels("classify", "200").inc()
            own.stage_duration.labels("tiny", "1", f"{life} {turn % 5}").observe(0.01)
        raise AssertionError


def obey(told: Connection[Any, tuple[Any, ...]], directory: Path, name: str) -> None:
    """Answers every command, a method of ``Process`` and its arguments, with what that returns."""
    process = Process(directory, name)
    while True:
        command, *arguments = told.recv()
        told.send(getattr(process, command)(*arguments))
