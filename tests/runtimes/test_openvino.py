"""What is OpenVINO's own: precision, threads, and that its numbers are fp32 where fp32 was asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino as ov
import pytest

from service.errors import OperatorError
from service.model.artifact import Artifact
from service.model.runtime import RuntimeOptions
from service.runtimes import create
from service.runtimes.openvino import runtime as openvino_runtime
from service.runtimes.openvino.graph import build_model
from service.runtimes.openvino.runtime import has_bf16, properties
from tests.runtimes.conftest import ArtifactOf, images_for, least_cosine, relative_error


@pytest.mark.parametrize(
    ("capabilities", "cpuinfo", "expected"),
    [
        (["FP32", "BF16"], "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        (["FP32", "BF16"], "flags\t\t: fpu amx_bf16\n", True),
        (["FP32", "BF16"], "Features\t: fp asimd bf16\n", True),
        (["FP32", "BF16"], "flags\t\t: fpu avx512f avx512bw\n", False),  # emulated
        (["FP32"], "flags\t\t: fpu avx512_bf16\n", False),
        (["FP32", "BF16"], None, True),  # a system without /proc
        (["FP32", "BF16"], "processor : 0\n", True),
    ],
)
def test_bf16_only_where_the_cpu_has_it(
    tmp_path: Path, capabilities: list[str], cpuinfo: str | None, expected: bool
) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    core = SimpleNamespace(get_property=lambda device, name: capabilities)
    assert has_bf16(core, path) is expected


def test_bf16_is_refused_elsewhere(tiny: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_runtime, "has_bf16", lambda core: False)
    with pytest.raises(OperatorError, match="bfloat16"):
        create(tiny, RuntimeOptions("openvino", precision="bf16"))


@pytest.mark.skipif(not has_bf16(ov.Core()), reason="this CPU has no bfloat16 instructions")
def test_bf16_is_close(tiny: Artifact) -> None:
    images = images_for(tiny, 4)
    exact, coarse = (
        create(tiny, RuntimeOptions("openvino", precision=precision, max_batch=4)).run(images)
        for precision in ("fp32", "bf16")
    )
    # 8 bits of mantissa: not equal to fp32, and not far from it.
    assert 1e-4 < relative_error(coarse.embeddings, exact.embeddings) < 0.1
    assert least_cosine(coarse.embeddings, exact.embeddings) > 0.99


def graph(artifact: Artifact) -> ov.Model:
    preprocessing, weights = artifact.manifest.preprocessing, artifact.load_weights()
    how = preprocessing.model_dump(include={"mean", "std", "rotate_180"})
    return build_model(artifact.network, weights, size=preprocessing.crop_size, **how)


def test_streams_threads_and_precision_reach_openvino(artifact_of: ArtifactOf) -> None:
    compiled = ov.Core().compile_model(graph(artifact_of("one-class")), "CPU", properties("fp32", threads=1))
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_more_runners_and_threads_than_cores(tiny: Artifact) -> None:
    model = create(tiny, RuntimeOptions("openvino", runners=9, threads_per_runner=33))
    assert model.run(images_for(tiny, 1)).logits.shape == (1, 10)


def test_without_that_graph_it_makes_no_difference_whether_an_image_is_alone(tiny: Artifact) -> None:
    runtime = create(tiny, RuntimeOptions("openvino", "cpu", runners=2, wide=False))
    (image,) = images_for(tiny, 1)
    first, second = runtime.run(image[np.newaxis]), runtime.run(image[np.newaxis], alone=True)
    assert np.array_equal(first.embeddings, second.embeddings)
    runtime.close()


def test_the_graph_for_a_lone_image_answers_as_the_others(artifact_of: ArtifactOf) -> None:
    artifact = artifact_of("paper")
    images = images_for(artifact, 4)
    runtime = create(artifact, RuntimeOptions("openvino", "cpu", runners=2))
    for image in images:
        narrow, wide = runtime.run(image[np.newaxis]), runtime.run(image[np.newaxis], alone=True)
        np.testing.assert_array_equal(narrow.top, wide.top)
        for field in ("logits", "embeddings", "maps"):
            # Threads split the work by rows and channels, not sums; should one do so, this is float32's rounding.
            np.testing.assert_allclose(getattr(narrow, field), getattr(wide, field), rtol=1e-5, atol=1e-5)
    runtime.close()
