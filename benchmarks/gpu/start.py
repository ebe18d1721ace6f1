"""Part ``start``: where the seconds until ready go, and what cuDNN's search would gain.

Each in a fresh process, because cuDNN keeps its choices per process: first everything that a single process does at
its start, as shipped; then one lane with one bucket, for which cuDNN times ``_SEARCHED`` algorithms per convolution.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.gpu import part
from benchmarks.gpu.part import Options, decide, say, say_table

T = TypeVar("T")

_SEARCHED = 10
_SPEED_S = 0.5

#: Seconds by step.
_steps: dict[str, float] = defaultdict(float)


def timed(step: str, call: Callable[..., T]) -> Callable[..., T]:
    def measured(*arguments: Any, **named: Any) -> T:
        began = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            _steps[step] += time.perf_counter() - began

    return measured


def main(options: Options, deadline: float) -> None:
    if len(sys.argv) > 2:
        Path(sys.argv[4]).write_text(json.dumps(_measure(options, float(sys.argv[2]), int(sys.argv[3]))))
        return
    size = _bucket(options)
    shipped = _in_a_fresh_process(options, 0)
    bare = f"{shipped['bare']:.0f}" if "bare" in shipped else "none (nothing is captured on this device)"
    text = (
        f"A single process is ready after {shipped['ready']:.1f} s; passes before capturing take "
        f"{shipped['passes']:.1f} s of them. Bare images/s at {size} as shipped: {bare}"
    )
    decide(f"{text}.")
    searched = _in_a_fresh_process(options, _SEARCHED)
    decide(
        f"{text}, {searched['bare']:.0f} with cuDNN's search of {_SEARCHED} algorithms, whose passes take "
        f"{searched['passes']:.1f} s for this bucket alone."
    )


def _bucket(options: Options) -> int:
    return 64 if options.gpu else 8


def _in_a_fresh_process(options: Options, search_limit: int) -> dict[str, float]:
    """What ``_measure`` found; it prints where this process does."""
    with tempfile.NamedTemporaryFile() as file:
        arguments = [options.dump(), str(time.monotonic()), str(search_limit), file.name]
        ended = subprocess.run([sys.executable, "-m", "benchmarks.gpu.start", *arguments], check=False)
        if ended.returncode:
            raise RuntimeError(f"the process ended with status {ended.returncode}")
        figures: dict[str, float] = json.load(file)
    return figures


def _measure(options: Options, spawned: float, search_limit: int) -> dict[str, float]:
    """As shipped without a ``search_limit``; otherwise one lane with one bucket."""
    _steps["interpreter"] = time.monotonic() - spawned
    torch = timed("torch", __import__)("torch")
    timed("torchvision", __import__)("torchvision.models.mobilenetv2")
    timed("service", __import__)("service.cli.serve")
    timed("service", __import__)("service.cli.one_process")

    from service.runtimes.torch import network, replay, runtime

    artifact = part.load_artifact()
    device = runtime.check_device(options.device, options.precision)
    timed("context", torch.zeros)(1, device=device)
    inside: Any = replay
    inside.warm_up = timed("passes", replay.warm_up)
    inside.record = timed("record", replay.record)
    inside.capture = timed("capture", replay.capture)
    figures = {}
    if search_limit:
        replay.SEARCH_LIMIT = search_limit
        module = network.load_classifier(artifact, folded_to=options.precision).to(device)
        lane = replay.Lane(module, (_bucket(options),), artifact.manifest.preprocessing.crop_size, device)
        figures["bare"] = _bare(lane, options)
    else:
        figures["ready"], lanes = _start(options, artifact)
        if lanes:
            figures["bare"] = _bare(lanes[0], options)
    return figures | {"passes": _steps["passes"]}


def _start(options: Options, artifact: Any) -> tuple[float, list[Any]]:
    """What ``serving.build`` and ``LocalEngine`` do; the seconds until ready, and the lanes."""
    from service.config import Settings
    from service.engine import warmup
    from service.runtimes.torch import replay, runtime
    from service.serving import build

    settings = Settings(device=options.device, runtime="torch", precision=options.precision)  # type: ignore[arg-type]
    plan = build.engine_plan(settings)
    lanes: list[Any] = []
    inside: Any = runtime
    lane = inside.Lane

    def noted_lane(*arguments: Any) -> Any:
        lanes.append(lane(*arguments))
        return lanes[-1]

    inside.load_classifier = timed("weights", inside.load_classifier)
    inside.Lane = noted_lane
    replay.Replay = timed("buckets", replay.Replay)  # type: ignore[assignment,misc]  # called in the same way
    served = timed("runtime", build.create_runtime)(plan.options, artifact)
    image = warmup.probe_image(artifact.manifest.preprocessing.crop_size)
    timed("warm-up", warmup.check)(served, image)
    timed("warm-up", warmup.batch_cost)(served, image)
    seconds = {
        "the interpreter": _steps["interpreter"],
        "import of torch": _steps["torch"],
        "import of torchvision": _steps["torchvision"],
        "import of the service": _steps["service"],
        "the device's context": _steps["context"],
        "weights: read and folded": _steps["weights"],
        "weights to the device, streams": _steps["runtime"] - _steps["weights"] - _steps["buckets"],
        "buckets: buffers": _steps["buckets"] - _steps["capture"],
        "buckets: passes before capturing": _steps["passes"],
        "buckets: capture": _steps["record"],
        "buckets: first launch": _steps["capture"] - _steps["passes"] - _steps["record"],
        "the engine's warm-up": _steps["warm-up"],
    }
    ready = sum(seconds.values())
    say(f"One process as shipped, {options.precision}, {plan.options.runners} lanes, up to {served.max_batch}:\n")
    rows = [[step, f"{value:.2f}"] for step, value in seconds.items()]
    say_table(["step", "seconds"], [*rows, ["**ready**", f"**{ready:.2f}**"]])
    return ready, lanes


def _bare(lane: Any, options: Options) -> float:
    """Images per second of graph launches alone."""
    from benchmarks.gpu.device import launches, rate

    size, times = _bucket(options), 20 if options.gpu else 1
    rate([lambda: launches(lane, size, times)], _SPEED_S / 5)
    return rate([lambda: launches(lane, size, times)], _SPEED_S)


if __name__ == "__main__":
    part.run(main)
