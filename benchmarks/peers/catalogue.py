"""Every peer: how it is installed, started and asked, and how its answer is read.

A photo becomes one request on the wire (``Peer.request``), in the form that the peer's documentation uses for an
image; its answer becomes ``[(label, score), …]``, best first (``Peer.read``).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.load import post

Prediction = tuple[str, float]

_BOUNDARY = b"peers-7d1f0c"


def raw(path: str) -> Callable[[bytes], bytes]:
    return lambda jpeg: post(path, jpeg)


def multipart(path: str, field: str) -> Callable[[bytes], bytes]:
    def build(jpeg: bytes) -> bytes:
        disposition = f'Content-Disposition: form-data; name="{field}"; filename="photo.jpg"'.encode()
        body = b"--%s\r\n%s\r\nContent-Type: image/jpeg\r\n\r\n" % (_BOUNDARY, disposition)
        body += b"%s\r\n--%s--\r\n" % (jpeg, _BOUNDARY)
        return post(path, body, f"multipart/form-data; boundary={_BOUNDARY.decode()}")

    return build


def open_inference(path: str) -> Callable[[bytes], bytes]:
    """Open Inference Protocol v2 with the binary data extension: one BYTES element."""

    def build(jpeg: bytes) -> bytes:
        element = struct.pack("<I", len(jpeg)) + jpeg
        size = {"binary_data_size": len(element)}
        image = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": size}
        head = json.dumps({"inputs": [image]}).encode()
        extra = f"Inference-Header-Content-Length: {len(head)}\r\n"
        return post(path, head + element, "application/octet-stream", headers=extra)

    return build


def read_list(body: bytes) -> list[Prediction]:
    """``[{"label": …, "score": …}, …]``, or a list of one such list."""
    answer = json.loads(body)
    if isinstance(answer[0], list):
        (answer,) = answer
    return [(entry["label"], float(entry["score"])) for entry in answer]


def read_mapping(body: bytes) -> list[Prediction]:
    """TorchServe's ``{label: score, …}``."""
    return [(label, float(score)) for label, score in json.loads(body).items()]


def read_open_inference(body: bytes) -> list[Prediction]:
    outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
    return list(zip(outputs["label"], map(float, outputs["score"]), strict=True))


def read_ours(body: bytes) -> list[Prediction]:
    return [(entry["label"], float(entry["probability"])) for entry in json.loads(body)["results"][0]["predictions"]]


@dataclass(frozen=True)
class Peer:
    name: str
    title: str  # in tables
    package: str  # whose version is shown
    folder: str  # below benchmarks/peers
    request: Callable[[bytes], bytes]
    read: Callable[[bytes], list[Prediction]] = read_list
    runtime: str = "torch"  # or openvino: our own
    #: Split at spaces; then {python}, {bin}, {folder} and {port} are filled in.
    command: str = "{python} {folder}/server.py"

    def precisions(self) -> tuple[str, ...]:
        return ("fp32", "bf16") if self.runtime == "torch" else ("fp32", "bf16", "int8")


_MOSEC = "{python} {folder}/server.py --address 127.0.0.1 --log-level warning --port {port}"
_BENTOML = "{bin}/bentoml serve server:ImageClassifier --working-dir {folder} --host 127.0.0.1 --port {port}"
_TRITON = open_inference("/v2/models/mobilenet/infer")

_OF_TORCH = (
    Peer("fastapi", "FastAPI + torch, no batching", "fastapi", "fastapi", multipart("/classify", "file")),
    Peer("litserve", "LitServe", "litserve", "litserve", multipart("/predict", "file")),
    Peer("bentoml", "BentoML", "bentoml", "bentoml", multipart("/classify", "images"), command=_BENTOML),
    Peer("ray", "Ray Serve", "ray", "ray", raw("/")),
    Peer("torchserve", "TorchServe", "torchserve", "torchserve", raw("/predictions/mobilenet"), read_mapping),
    Peer("mosec", "mosec", "mosec", "mosec", raw("/inference"), command=_MOSEC),
    Peer("triton", "Triton (PyTriton)", "nvidia-pytriton", "triton", _TRITON, read_open_inference),
)
_OF_OURS = (
    Peer("fastapi", "FastAPI, thread pool", "fastapi", "fastapi_pool", raw("/classify")),
    *(peer for peer in _OF_TORCH if peer.name in ("litserve", "mosec", "triton")),
)
PEERS = {peer.name: peer for peer in _OF_TORCH} | {
    f"{peer.name}-openvino": replace(
        peer, name=f"{peer.name}-openvino", title=f"{peer.title}, our runtime", runtime="openvino"
    )
    for peer in _OF_OURS
}
