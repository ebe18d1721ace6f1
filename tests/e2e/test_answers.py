"""Real weights, real photos, a real server: are the answers right, and do neighbours leave them alone?"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.model.artifact import Artifact
from tests import scrape
from tests.e2e.process import ServerProcess
from tests.photos import Photo, variations

Classes = list[tuple[str, float]]


def classify(client: httpx.Client, data: bytes, top_k: int = 5) -> Classes:
    answer = client.post("/classify", params={"top_k": top_k}, content=data)
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    return [(p["label"], p["probability"]) for p in result["predictions"]]


@pytest.fixture(scope="module")
def eager(real_artifact: Artifact) -> Any:
    """torchvision's own model with the artifact's weights, and nothing of ours but the file."""
    import torch
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2()
    tensors = {name: torch.from_numpy(array.copy()) for name, array in real_artifact.load_weights().items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return model.eval()


def eager_answer(model: Any, data: bytes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits and unit-length embedding by torchvision: resize 256, crop 224, [-1, 1], turned by 180°."""
    import torch
    from torchvision.transforms import functional

    with Image.open(io.BytesIO(data)) as image:
        cropped = functional.center_crop(functional.resize(image.convert("RGB"), [256]), [224])
    pixels = functional.normalize(functional.to_tensor(cropped), [0.5] * 3, [0.5] * 3)
    with torch.inference_mode():
        features = model.features(torch.rot90(pixels, 2, (1, 2))[None]).mean((2, 3))
        logits = model.classifier(features)
    return logits[0].numpy(), torch.nn.functional.normalize(features)[0].numpy()


def test_labelled_photos_are_recognised(
    any_server: ServerProcess, photos: list[Photo], real_artifact: Artifact
) -> None:
    top1 = top5 = 0
    with any_server.client() as client:
        for photo in photos:
            label = real_artifact.labels[photo.label]
            names = [name for name, _ in classify(client, photo.data)]
            top1 += names[0] == label
            top5 += label in names
    assert top1 >= 18
    assert top5 == 20


@pytest.mark.extra
def test_answers_are_those_of_torchvision(
    any_server: ServerProcess, photos: list[Photo], real_artifact: Artifact, eager: Any
) -> None:
    with any_server.client() as client:
        for photo in photos:
            logits, features = eager_answer(eager, photo.data)
            embedded = client.post("/embed", content=photo.data, headers={"Accept": "application/octet-stream"})
            assert embedded.status_code == 200, embedded.text
            assert float(np.frombuffer(embedded.content, "<f4") @ features) >= 0.99999
            expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            for label, probability in classify(client, photo.data):
                index = real_artifact.labels.index(label)
                # A relative error of 1e-3 in the logits, the contract, is more than 1e-3 here; float noise is 1e-5.
                assert probability == pytest.approx(float(expected[index]), abs=1e-4)
            assert classify(client, photo.data, 1)[0][0] == real_artifact.labels[int(logits.argmax())]


@pytest.mark.slow
def test_two_hundred_at_once_answer_as_each_alone(any_server: ServerProcess, photos: list[Photo]) -> None:
    images = variations(photos, 200)
    with any_server.client() as client:
        alone = [classify(client, data) for data in images]
        with ThreadPoolExecutor(200) as pool:
            together = list(pool.map(lambda data: classify(client, data), images))
        samples = scrape.samples(client.get("/metrics").text)
    for one, other in zip(alone, together, strict=True):
        assert [label for label, _ in one] == [label for label, _ in other]
        # Kernels for other batch sizes add in another order; a mix-up would be off by whole classes.
        np.testing.assert_allclose([p for _, p in one], [p for _, p in other], atol=1e-4)
    model = '{model="mobilenet_v2",version="1"}'
    assert samples[f"mobilenet_queue_depth{model}"] == 0
    assert samples["mobilenet_in_flight"] == 0
    if 'runtime="torch"' in "".join(samples):
        assert samples[f"mobilenet_batch_size_sum{model}"] > samples[f"mobilenet_batch_size_count{model}"]


def test_bad_images_between_good_ones_touch_none(any_server: ServerProcess, photos: list[Photo]) -> None:
    good = variations(photos, 32)
    bad = [b"no image at all", good[0][:2000], good[1][: len(good[1]) // 2], b"\xff\xd8\xff" + b"\x00" * 5000]
    with any_server.client() as client:
        alone = [classify(client, data) for data in good]
        with ThreadPoolExecutor(64) as pool:
            answers, refusals = [], []
            for index, data in enumerate(good):
                answers.append(pool.submit(classify, client, data))
                refusals.append(pool.submit(client.post, "/classify", content=bad[index % len(bad)]))
        for refusal in refusals:
            assert refusal.result().status_code in (415, 422)
        for one, answer in zip(alone, answers, strict=True):
            assert [label for label, _ in one] == [label for label, _ in answer.result()]
            np.testing.assert_allclose([p for _, p in one], [p for _, p in answer.result()], atol=1e-4)
        assert client.get("/readyz").status_code == 200


def test_one_request_with_every_photo(any_server: ServerProcess, photos: list[Photo]) -> None:
    with any_server.client() as client:
        answer = client.post("/classify", files=[("file", (photo.name, photo.data)) for photo in photos])
        alone = [classify(client, photo.data)[0][0] for photo in photos]
    assert [result["predictions"][0]["label"] for result in answer.json()["results"]] == alone
