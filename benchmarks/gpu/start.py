"""Part ``start``: where the seconds until ready go, and what cuDNN's search buys.

First what a single process does at its start, as shipped. Then, in fresh processes (cuDNN's choices are kept per
process), fewer algorithms tried for each convolution: the seconds that takes, and the speed that results.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from benchmarks.gpu import options as part
from benchmarks.gpu.options import Options, decide, say, say_head, say_row, say_table

T = TypeVar("T")

#: Algorithms that cuDNN may try; 0: it does not search.
_LIMITS = (0, 1, 3, 2)
_SIZES, _SMOKE_SIZES = (1, 8, 64), (1, 8)
#: What a start with a limit is expected to take before one was seen, in seconds.
_VARIANT_S = 12.0
_SPEED_S = 0.5
_AS_SHIPPED = -1

_STEPS = ("search", "record", "capture", "buckets")


class Stopwatch:
    """Seconds by step."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = defaultdict(float)

    def timed(self, step: str, call: Callable[..., T]) -> Callable[..., T]:
        def measured(*arguments: Any, **named: Any) -> T:
            began = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.steps[step] += time.perf_counter() - began

        return measured


def main(options: Options, deadline: float) -> None:
    if len(sys.argv) > 2:
        _one(options, float(sys.argv[2]), int(sys.argv[3]))
        return
    shipped = _child(options, _AS_SHIPPED)
    ready = (
        f"Of {shipped['ready']:.1f} s until a single process is ready, passes before capturing (cuDNN's search) take "
        f"{shipped['all_searches']:.1f} s"
    )
    decide(f"{ready}.")
    if not options.gpu:
        say("No search on a CPU.\n")
    sizes = _sizes(options)
    say(f"One lane with buckets {', '.join(map(str, sizes))}, {options.precision}:\n")
    say_head(
        [
            "algorithms tried",
            "imports, s",
            "passes before capturing, s",
            "capture and first launch, s",
            f"bare at {sizes[-1]}, images/s",
        ]
    )
    say_row([f"{shipped['limit']}, as shipped (above)", *_cells(shipped)])
    expected, bares = _VARIANT_S, {shipped["limit"]: shipped["bare"]}
    for limit in _LIMITS if options.gpu else _LIMITS[:1]:
        name = str(limit) if limit else "none: heuristics"
        if time.monotonic() + expected > deadline:
            say_row([name, "skipped: no time", "", "", ""])
            continue
        began = time.monotonic()
        try:
            found = _child(options, limit)
        except RuntimeError as error:
            say_row([name, str(error), "", "", ""])
            continue
        expected = 1.3 * (time.monotonic() - began)
        say_row([name, *_cells(found)])
        bares[limit] = found["bare"]
        speeds = ", ".join(f"{limit}: {bare:.0f}" for limit, bare in bares.items())
        decide(f"{ready}; images/s at {sizes[-1]} by algorithms tried: {speeds}.")
    say()


def _sizes(options: Options) -> tuple[int, ...]:
    return _SIZES if options.gpu else _SMOKE_SIZES


def _cells(found: dict[str, Any]) -> list[str]:
    return [f"{found['imports']:.1f}", f"{found['search']:.2f}", f"{found['capture']:.2f}", f"{found['bare']:.0f}"]


def _child(options: Options, limit: int) -> dict[str, Any]:
    """What ``_one`` found in a fresh process; what it prints before that is passed on."""
    command = [sys.executable, "-m", "benchmarks.gpu.start", options.dump(), str(time.monotonic()), str(limit)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
            say(line.removesuffix("\n"))
    raise RuntimeError(f"the process ended with status {process.returncode}")


def _one(options: Options, spawned: float, limit: int) -> None:
    """With ``_AS_SHIPPED`` for a limit all that a start does, else one lane of a few buckets."""
    watch = Stopwatch()
    steps = watch.steps
    steps["interpreter"] = time.monotonic() - spawned
    torch = watch.timed("import torch", __import__)("torch")
    watch.timed("import torchvision", __import__)("torchvision.models.mobilenetv2")
    watch.timed("import the service", __import__)("service.cli.serve")
    watch.timed("import the service", __import__)("service.cli.single")

    imports = sum(steps.values())

    from service.runtimes.torch import network as torch_module
    from service.runtimes.torch import replay as torch_replay
    from service.runtimes.torch import runtime as torch_runtime

    torch_replay.warm_up = watch.timed("search", torch_replay.warm_up)
    torch_replay.record = watch.timed("record", torch_replay.record)
    torch_replay.capture = watch.timed("capture", torch_replay.capture)
    replay, sizes = torch_replay.Replay, []

    def bucket(module: Any, size: int, *arguments: Any) -> Any:
        before = dict(steps)
        made = watch.timed("buckets", replay)(module, size, *arguments)
        sizes.append((size, {step: steps[step] - before.get(step, 0.0) for step in _STEPS}))
        return made

    torch_replay.Replay = bucket  # type: ignore[assignment,misc]  # called in the same way
    found = part.load_artifact()
    device = torch_runtime.check_device(options.device, options.precision)
    watch.timed("context", torch.zeros)(1, device=device)
    if limit == _AS_SHIPPED:
        result = _as_shipped(options, watch, found)
        _say_buckets(sizes)
    else:
        torch_replay.SEARCH_LIMIT = limit
        module = torch_module.load_classifier(found, folded_to=options.precision).to(device)
        lane = torch_replay.Lane(module, _sizes(options), found.manifest.preprocessing.crop_size, device)
        result = {"bare": _bare(lane, options)}
    # Of the first lane: what it chose is there for the second one.
    first = [spent for size, spent in dict(reversed(sizes)).items() if size in _sizes(options)]
    result["search"] = sum(spent["search"] for spent in first)
    result["capture"] = sum(spent["capture"] - spent["search"] for spent in first)
    result["imports"] = imports
    result["limit"] = torch_replay.SEARCH_LIMIT
    say(json.dumps(result))


def _as_shipped(options: Options, watch: Stopwatch, found: Any) -> dict[str, Any]:
    """As ``serving.build`` and ``LocalEngine`` do it."""
    from service.config import Settings
    from service.engine import warmup
    from service.runtimes.torch import runtime as torch_runtime
    from service.serving import build

    steps = watch.steps
    settings = Settings(device=options.device, runtime="torch", precision=options.precision)  # type: ignore[arg-type]
    plan = build.engine_plan(settings)
    lanes: list[Any] = []
    inside: Any = torch_runtime
    lane = inside.Lane

    def kept(*arguments: Any) -> Any:
        lanes.append(lane(*arguments))
        return lanes[-1]

    inside.load_classifier = watch.timed("weights", inside.load_classifier)
    inside.Lane = kept
    runtime = watch.timed("runtime", build.create_runtime)(plan.options, found)
    image = warmup.probe_image(found.manifest.preprocessing.crop_size)
    watch.timed("warm-up", warmup.check)(runtime, image)
    watch.timed("warm-up", warmup.batch_cost)(runtime, image)
    parts = {
        "the interpreter": steps["interpreter"],
        "import of torch": steps["import torch"],
        "import of torchvision": steps["import torchvision"],
        "import of the service": steps["import the service"],
        "the device's context": steps["context"],
        "weights: read and folded": steps["weights"],
        "weights to the device, streams": steps["runtime"] - steps["weights"] - steps["buckets"],
        "buckets: buffers": steps["buckets"] - steps["capture"],
        "buckets: passes before capturing, cuDNN's search": steps["search"],
        "buckets: capture": steps["record"],
        "buckets: first launch": steps["capture"] - steps["search"] - steps["record"],
        "the engine's warm-up": steps["warm-up"],
    }
    ready = sum(parts.values())
    say(f"One process as shipped, {options.precision}, {plan.options.runners} lanes, up to {runtime.max_batch}:\n")
    rows = [[step, f"{seconds:.2f}"] for step, seconds in parts.items()]
    say_table(["step", "seconds"], [*rows, ["**ready**", f"**{ready:.2f}**"]])
    return {"ready": ready, "all_searches": steps["search"], "bare": _bare(lanes[0], options) if lanes else 0.0}


def _say_buckets(sizes: list[tuple[int, dict[str, float]]]) -> None:
    rows, lane = [], 0
    for index, (size, spent) in enumerate(sizes):
        lane += index == 0 or size > sizes[index - 1][0]
        first = spent["capture"] - spent["search"] - spent["record"]
        figures = [spent["search"], spent["record"], first, spent["buckets"]]
        rows.append([str(lane), str(size), *(f"{seconds:.3f}" for seconds in figures)])
    say_table(["lane", "bucket", "passes before capturing, s", "capture, s", "first launch, s", "all, s"], rows)


def _bare(lane: Any, options: Options) -> float:
    from benchmarks.gpu.device import launches, rate

    size, times = _sizes(options)[-1], 20 if options.gpu else 1
    rate([lambda: launches(lane, size, times)], _SPEED_S / 5)
    return rate([lambda: launches(lane, size, times)], _SPEED_S)


if __name__ == "__main__":
    part.run(main)
