"""Which runtime on which device: what "auto" means, what is refused, and that nothing is imported in vain."""

from __future__ import annotations

import sys

import pytest

from service import runtimes
from service.errors import MissingExtra, OperatorError
from service.model.artifact import Artifact
from service.model.runtime import RuntimeOptions
from service.runtimes import create, runtime_and_device
from tests.runtimes.conftest import python


def test_importing_the_package_imports_neither_backend() -> None:
    code = "import sys, service.runtimes; print({'torch', 'torchvision', 'openvino'} & sys.modules.keys())"
    assert python(code) == "set()\n"


def test_works_where_torch_is_not_installed(tiny: Artifact) -> None:
    code = """
import sys
sys.modules["torch"] = sys.modules["torchvision"] = None  # what "import torch" finds: nothing
from pathlib import Path
import numpy as np
from service.model import artifact
from service.errors import MissingExtra
from service.model.runtime import RuntimeOptions
from service.runtimes import create
tiny = artifact.load(Path(sys.argv[1]), sys.argv[2], "1")
model = create(tiny, RuntimeOptions())
print(model.name, model.device, model.run(np.zeros((1, 64, 64, 3), np.uint8)).logits.shape)
try:
    create(tiny, RuntimeOptions(runtime="torch"))
except MissingExtra as error:
    print(error)
"""
    assert python(code, str(tiny.directory.parent.parent), "tiny").splitlines() == [
        "openvino cpu (1, 10)",
        "runtime=torch needs the extra 'torch'; in a clone: .venv/bin/pip install -c constraints.txt -e '.[torch]'",
    ]


@pytest.mark.parametrize("missing", ["torch", "torchvision"])
@pytest.mark.parametrize("options", [RuntimeOptions("torch", "cpu"), RuntimeOptions("torch", "cuda")])
def test_names_the_extra(
    tiny: Artifact, monkeypatch: pytest.MonkeyPatch, options: RuntimeOptions, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=r"needs the extra 'torch'"):
        create(tiny, options)


@pytest.mark.parametrize(
    ("runtime", "device", "cuda", "resolved"),
    [
        ("auto", "auto", False, ("openvino", "cpu")),
        ("auto", "auto", True, ("torch", "cuda")),
        ("auto", "cpu", True, ("openvino", "cpu")),
        ("auto", "cuda:1", False, ("torch", "cuda:1")),
        ("openvino", "auto", True, ("openvino", "cpu")),
        ("torch", "auto", False, ("torch", "cpu")),
        ("torch", "auto", True, ("torch", "cuda")),
        ("torch", "cpu", True, ("torch", "cpu")),
    ],
)
def test_auto(
    monkeypatch: pytest.MonkeyPatch, runtime: str, device: str, cuda: bool, resolved: tuple[str, str]
) -> None:
    monkeypatch.setattr(runtimes, "cuda_usable", lambda: cuda)
    assert runtime_and_device(runtime, device) == resolved


def test_a_gpu_without_torch_is_worth_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtimes, "nvidia_driver", lambda: True)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert runtime_and_device("auto", "auto") == ("openvino", "cpu")
    assert "needs the extra 'torch'" in caplog.text


@pytest.mark.extra
def test_a_driver_without_a_gpu_is_worth_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    monkeypatch.setattr(runtimes, "nvidia_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime_and_device("auto", "auto") == ("openvino", "cpu")
    assert "no GPU" in caplog.text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (RuntimeOptions(runtime="onnx"), "runtime=onnx is unknown"),
        (RuntimeOptions("torch", "gpu"), "device=gpu is unknown"),
        (RuntimeOptions(device="cuda:x"), "device=cuda:x is unknown"),
        (RuntimeOptions(device="cuda:0\n"), "is unknown"),
        (RuntimeOptions("openvino", "cuda"), "runtime=torch for device=cuda"),
        (RuntimeOptions("openvino", precision="fp16"), "choose fp32, bf16 or int8"),
        (RuntimeOptions("openvino", precision="int4"), "choose fp32, bf16 or int8"),
        (RuntimeOptions(runners=0), "at least 1"),
        (RuntimeOptions(threads_per_runner=0), "at least 1"),
        (RuntimeOptions(max_batch=0), "at least 1"),
    ],
)
def test_refuses_in_one_sentence(tiny: Artifact, options: RuntimeOptions, says: str) -> None:
    with pytest.raises(OperatorError, match=says) as caught:
        create(tiny, options)
    assert "\n" not in str(caught.value).replace("cuda:0\n", "")


@pytest.mark.extra
class TestTorchDevices:
    @pytest.fixture(autouse=True)
    def _torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One GPU from before Ampere, as far as questions go."""
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))

    def check(self, device: str, precision: str) -> str:
        from service.runtimes.torch.runtime import check_device

        return str(check_device(device, precision))

    def test_cuda_is_the_first_gpu(self) -> None:
        assert self.check("cuda", "fp16") == "cuda:0"

    @pytest.mark.parametrize(
        ("device", "precision", "says"),
        [
            ("cuda:1", "fp32", "the last of the 1 CUDA devices here is cuda:0"),
            ("cuda", "bf16", "no bfloat16"),
            ("cuda", "int8", "choose fp32, fp16 or bf16"),
            ("cpu", "bf16", "fp32 only on a CPU"),
        ],
    )
    def test_refuses(self, device: str, precision: str, says: str) -> None:
        with pytest.raises(OperatorError, match=says):
            self.check(device, precision)

    def test_cuda_without_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(OperatorError, match="no CUDA GPU"):
            self.check("cuda", "fp32")
