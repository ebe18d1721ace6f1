"""The loops that a server is compared with: decode and infer without HTTP.

    plain   as the libraries' documentation shows: Pillow opens, resizes and crops; OpenVINO infers in THROUGHPUT mode;
            one thread per core
    own     the service's preprocessing and runtime, called in a loop; one thread per core
    single  the same, but one image at a time on one thread, with all cores for inference: the limit of latency

Each runs in a process of its own, so that loops and servers can take turns in one benchmark.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks import photos
from service.config import Settings
from service.host.cores import available_cores
from service.model import artifact
from service.model.artifact import Artifact
from service.serving.build import create_runtime, engine_plan

Step = Callable[[bytes], object]
#: ``rate`` in images per second, ``p50`` in seconds per image, ``cpu`` in seconds of CPU time per image.
Result = dict[str, float]


def plain(settings: Settings, found: Artifact) -> list[Step]:
    """One step function per thread."""
    import openvino as ov
    from PIL import Image

    from service.runtimes.openvino.runtime import graph_from_weights, properties, read_int8

    preprocessing = found.manifest.preprocessing
    core = ov.Core()
    model = read_int8(core, found) if settings.precision == "int8" else graph_from_weights(found, settings.precision)
    precision = "INFERENCE_PRECISION_HINT"
    compiled = core.compile_model(
        model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", precision: properties(settings.precision, 1)[precision]}
    )

    def thread_step() -> Step:
        request = compiled.create_infer_request()

        def step(data: bytes) -> object:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            scale = preprocessing.resize_size / min(image.size)
            image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
            left, top = (image.width - 224) // 2, (image.height - 224) // 2
            pixels = np.asarray(image.crop((left, top, left + 224, top + 224)))
            result = request.infer({0: pixels[None]})
            return np.argsort(result[0][0])[-5:]

        return step

    return [thread_step() for _ in range(available_cores())]


def own(settings: Settings, found: Artifact, *, alone: bool = False) -> list[Step]:
    """The same; if ``alone``, for one thread that has all cores."""
    from service.image import inspect, preprocess
    from service.model.outputs import classify

    runtime = create_runtime(engine_plan(settings).options, found)
    transform = found.manifest.preprocessing.transform()

    def step(data: bytes) -> object:
        pixels = preprocess(data, inspect(data), transform, settings.decode)
        return classify(runtime.run([pixels], alone=alone).items()[0], found.labels, 5)

    return [step] * (1 if alone else available_cores())


@contextmanager
def loop(name: str, precision: str = "fp32", decode: str = "exact") -> Iterator[Callable[[float, Path], Result]]:
    """A process that runs the loop; yields a function of seconds and a folder of JPEGs."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=_prepare, initargs=(name, precision, decode)) as process:
        process.submit(len, ()).result()  # once it is prepared
        yield lambda seconds, folder: process.submit(_measure, seconds, folder).result()


_steps: list[Step] = []


def _prepare(name: str, precision: str, decode: str) -> None:
    settings = Settings.model_validate({"precision": precision, "decode": decode})
    found = artifact.load(settings.model_store, settings.model, settings.version)
    _steps[:] = plain(settings, found) if name == "plain" else own(settings, found, alone=name == "single")


def _measure(seconds: float, folder: Path) -> Result:
    """Run every step on its own thread for ``seconds``."""
    jpegs = photos.from_folder(folder)
    ends = time.perf_counter() + seconds

    def run(index: int) -> list[float]:
        times = []
        turn = index
        while (started := time.perf_counter()) < ends:
            _steps[index](jpegs[turn % len(jpegs)])
            times.append(time.perf_counter() - started)
            turn += len(_steps)
        return times

    with ThreadPoolExecutor(len(_steps)) as threads:
        started, used = time.perf_counter(), time.process_time()
        every = [taken for times in threads.map(run, range(len(_steps))) for taken in times]
        elapsed, used = time.perf_counter() - started, time.process_time() - used
    return {"rate": len(every) / elapsed, "p50": float(np.median(every)), "cpu": used / len(every)}
