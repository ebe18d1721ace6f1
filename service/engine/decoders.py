"""Decoding on the runners' own threads: an ``Executor`` whose jobs go through the batcher.

On a CPU every core has a runner. Threads of a pool beside them would only take turns with them: more switches, and a
runner woken on a busy core while another idles. So there the same threads do both, batches first.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from service.batcher import Job

P = ParamSpec("P")
T = TypeVar("T")


class DecodeJob:
    """One call and the future that gets its outcome."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self._function = function

    def __call__(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._function())
        except BaseException as error:
            self.future.set_exception(error)


class RunnerExecutor(Executor):
    """Hands each call to ``put_job``, which may raise: then so does ``submit``."""

    def __init__(self, put_job: Callable[[Job], None]) -> None:
        self._put_job = put_job

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        job = DecodeJob(lambda: fn(*args, **kwargs))
        self._put_job(job)
        return job.future
