"""TorchServe: torch-model-archiver, then ``torchserve`` with the batching configuration of its documentation."""

import json
import os
import subprocess
from pathlib import Path

import torch
from mobilenet import Classifier

from benchmarks.peers.classifier import BATCH, PORT, WAIT
from benchmarks.peers.model import LABELS, PREPROCESSING, load_model

IMAGENET_MEAN, IMAGENET_STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def archive() -> None:
    """Write mobilenet.mar into the working directory."""
    model = Classifier()
    model.load_state_dict(load_model().state_dict(), strict=False)
    mean, std = torch.tensor(PREPROCESSING["mean"]), torch.tensor(PREPROCESSING["std"])
    model.scale[0, :, 0, 0] = IMAGENET_STD / std
    model.shift[0, :, 0, 0] = (IMAGENET_MEAN - mean) / std
    assert PREPROCESSING["rotate_180"]
    torch.save(model.state_dict(), "mobilenet.pth")
    Path("index_to_name.json").write_text(json.dumps({str(i): label for i, label in enumerate(LABELS[:1000])}))
    subprocess.run(
        ["torch-model-archiver", "--model-name", "mobilenet", "--version", "1.0", "--handler", "image_classifier",
         "--model-file", str(Path(__file__).with_name("mobilenet.py")), "--serialized-file", "mobilenet.pth",
         "--extra-files", "index_to_name.json", "--force"],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    archive()
    batching = {
        "defaultVersion": True,
        "marName": "mobilenet.mar",
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": BATCH,
        "maxBatchDelay": round(WAIT * 1e3),
        "responseTimeout": 120,
    }
    properties = {
        "inference_address": f"http://127.0.0.1:{PORT}",
        "management_address": f"http://127.0.0.1:{PORT + 1}",
        "metrics_address": f"http://127.0.0.1:{PORT + 2}",
        "grpc_inference_port": PORT + 3,
        "grpc_management_port": PORT + 4,
        "load_models": "all",
        "models": json.dumps({"mobilenet": {"1.0": batching}}),
    }
    Path("config.properties").write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    options = ["--start", "--foreground", "--ncs", "--disable-token-auth", "--model-store", "."]
    os.execvp("torchserve", ["torchserve", *options, "--ts-config", "config.properties"])
