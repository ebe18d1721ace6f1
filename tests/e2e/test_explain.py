"""Class maps of the real model on real photos: exact, in place, the same by every way that leads to them."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks import maps
from service.cli import cli
from service.model.artifact import Artifact
from tests.e2e.process import ServerProcess, server
from tests.image.samples import encode, exif, stored
from tests.photos import Photo

pytestmark = pytest.mark.slow

DRAWING = {"Accept": "image/png"}


def rgb(photo: Photo) -> Image.Image:
    with Image.open(io.BytesIO(photo.data)) as image:
        return image.convert("RGB")


def test_the_mean_of_a_map_plus_the_bias_is_the_logit(
    any_server: ServerProcess, photos: list[Photo], real_artifact: Artifact
) -> None:
    bias = real_artifact.load_weights()["classifier.1.bias"]
    worst = 0.0
    with any_server.client() as client:
        for photo in photos:
            for query in ("top_k=5", f"class={photo.label},0,999"):
                answer = client.post(f"/explain?{query}", content=photo.data)
                assert answer.status_code == 200, answer.text
                for shown in answer.json()["results"][0]["maps"]:
                    values = np.array(shown["map"])
                    assert values.shape == (7, 7)
                    worst = max(worst, abs(values.mean() + bias[shown["index"]] - shown["logit"]))
    assert worst < 1e-3


def drawing(client: httpx.Client, data: bytes, query: str = "") -> Image.Image:
    answer = client.post(f"/explain?{query}", content=data, headers=DRAWING)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def test_a_turned_photo_has_the_drawing_of_the_upright_one(openvino_server: ServerProcess, photos: list[Photo]) -> None:
    """The artifact is a rotated one, too: all turns cancel out."""
    with openvino_server.client() as client:
        for photo in photos[:4]:
            expected = drawing(client, encode(rgb(photo), "PNG"))
            for orientation in (3, 5, 6):
                actual = drawing(client, encode(stored(rgb(photo), orientation), "PNG", exif=exif(orientation)))
                assert actual.size == expected.size
                difference = np.abs(np.asarray(actual).astype(int) - np.asarray(expected))
                assert difference.max() <= 1, "the level of a place may round the other way"


def class_map(client: httpx.Client, data: bytes, index: int) -> NDArray[np.float64]:
    answer = client.post(f"/explain?class={index}", content=data)
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["results"][0]["maps"][0]["map"])


def test_a_mirrored_photo_has_the_mirrored_map(openvino_server: ServerProcess, photos: list[Photo]) -> None:
    """Not exactly, for kernels are not symmetric; but what lay on the left lies on the right."""
    alike, crossed = [], []
    with openvino_server.client() as client:
        for photo in photos:
            plain = class_map(client, photo.data, photo.label)
            mirrored = class_map(client, encode(ImageOps.mirror(rgb(photo)), "PNG"), photo.label)
            alike.append(np.corrcoef(plain[:, ::-1].ravel(), mirrored.ravel())[0, 1])
            crossed.append(np.corrcoef(plain.ravel(), mirrored.ravel())[0, 1])
    assert np.median(alike) > 0.9
    assert np.median(alike) > np.median(crossed) + 0.1


def test_maps_lie_on_their_photos_in_a_collage(openvino_server: ServerProcess, photos: list[Photo]) -> None:
    """Not each: a place of the map sees beyond itself. Evidence spread evenly would have a quarter in each quarter."""
    played = list(maps.play(openvino_server.url, [photo.data for photo in photos]))
    assert sorted(quarter for quarter, _ in played) == sorted([0, 1, 2, 3] * len(photos))
    assert np.mean([parts[quarter] for quarter, parts in played]) > 0.6
    assert sum(parts.argmax() == quarter for quarter, parts in played) >= 0.85 * len(played)


def test_shares_of_a_known_map() -> None:
    values = np.zeros((7, 7))
    values[0, 0], values[1, 6], values[3, 6], values[3, 3], values[6, 6] = -9, 1, 2, 4, 1
    assert maps.shares(values.tolist()) == pytest.approx([1 / 8, 3 / 8, 1 / 8, 3 / 8])
    assert maps.shares((values - 9).tolist()).tolist() == [0, 0, 0, 0]


def test_the_command_draws_what_the_server_draws(
    openvino_server: ServerProcess, photos: list[Photo], tmp_path: Path
) -> None:
    path, out = tmp_path / "photo.jpg", tmp_path / "map.png"
    path.write_bytes(photos[0].data)
    result = CliRunner().invoke(cli, ["explain", str(path), "--out", str(out), "--class", "3", "--opacity", "0.7"])
    assert result.exit_code == 0, result.output
    with openvino_server.client() as client, Image.open(out) as drawn:
        expected = drawing(client, photos[0].data, "class=3&opacity=0.7")
        difference = np.abs(np.asarray(drawn).astype(int) - np.asarray(expected))
        assert difference.max() <= 1
        # Digits of the logit may differ with the number of cores at work.
        assert drawn.info["Description"].split(":")[0] == expected.info["Description"].split(":")[0]


def test_maps_come_through_workers_and_engines_as_well(real_artifact: Artifact, photos: list[Photo]) -> None:
    bias = real_artifact.load_weights()["classifier.1.bias"]
    with server("--workers", "2") as running, running.client() as client:
        for photo in photos[:5]:
            result = client.post("/explain?class=999,5&embedding=1", content=photo.data).json()["results"][0]
            assert [shown["index"] for shown in result["maps"]] == [999, 5]
            for shown in result["maps"]:
                assert abs(np.mean(shown["map"]) + bias[shown["index"]] - shown["logit"]) < 1e-3
            assert drawing(client, photo.data).size == (result["photo"]["width"], result["photo"]["height"])
