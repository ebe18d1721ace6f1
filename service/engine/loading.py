"""Loads a model for the engine, on a thread of its own: create the runtime, test it, choose the largest batch."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal, NamedTuple

from service.engine import warmup
from service.engine.client import RuntimeInfo
from service.errors import OperatorError
from service.image import Pixels
from service.model.runtime import Runtime

logger = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A model that has answered the probe image."""

    runtime: Runtime
    info: RuntimeInfo
    probe_image: Pixels
    seconds: float  # that it took


async def on_thread(load: Callable[[], None]) -> None:
    """Run ``load``. Raises OperatorError, whatever ``load`` raises.

    The thread is a daemon, not an executor's: when told to stop, the process must not wait for a slow driver.
    """
    loaded: Future[None] = Future()
    loaded.set_running_or_notify_cancel()  # the thread finishes even if nobody waits for it any more

    def run() -> None:
        try:
            load()
            loaded.set_result(None)
        except OperatorError as error:
            loaded.set_exception(error)
        except Exception as error:
            logger.exception("the model could not be loaded")
            loaded.set_exception(OperatorError(f"the model could not be loaded ({type(error).__name__})"))

    threading.Thread(target=run, name="engine-load", daemon=True).start()
    await asyncio.wrap_future(loaded)


def load(create_runtime: Callable[[], Runtime], image_size: int, max_batch_size: int | Literal["auto"]) -> Loaded:
    """Create the runtime and test it on the probe image. Raises OperatorError, and what ``create_runtime`` raises."""
    started, probe_image = time.monotonic(), warmup.probe_image(image_size)
    runtime = create_runtime()
    try:
        warmup.check(runtime, probe_image)
        cost = warmup.batch_cost(runtime, probe_image)
    except BaseException:
        runtime.close()
        raise
    size = warmup.knee(cost) if max_batch_size == "auto" else max_batch_size
    info = RuntimeInfo(runtime.name, runtime.device, runtime.precision, min(size, runtime.max_batch), cost)
    return Loaded(runtime, info, probe_image, time.monotonic() - started)
