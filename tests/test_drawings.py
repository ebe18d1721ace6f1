"""The pictures that documents and screenshots show: their things are where they say, and the network knows them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.maps import encoded, infer, lines, measure_drawings, score, sheets
from docs import drawings
from docs.drawings import DRAWINGS, Drawing
from service.image import CropBox, crop_box
from service.model.artifact import Artifact


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    return {drawing.name: Image.open(io.BytesIO(encoded(drawing))) for drawing in DRAWINGS}


def test_a_drawing_is_the_same_each_time(pictures: dict[str, Image.Image]) -> None:
    first = DRAWINGS[0]
    assert first.draw().tobytes() == pictures[first.name].tobytes()


def test_shapes_are_mixed(pictures: dict[str, Image.Image]) -> None:
    sizes = [picture.size for picture in pictures.values()]
    assert {np.sign(width - height) for width, height in sizes} == {-1, 0, 1}
    assert all(480 <= length <= 640 for size in sizes for length in size)


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.name)
def test_things_lie_within_what_the_network_sees_and_off_its_centre(
    drawing: Drawing, pictures: dict[str, Image.Image], real_artifact: Artifact
) -> None:
    crop = crop_box(pictures[drawing.name].size, real_artifact.manifest.preprocessing.transform())
    for thing in drawing.things:
        x0, y0, x1, y1 = thing.box
        assert crop.x - 5 <= x0 < x1 <= crop.x + crop.width + 5
        assert crop.y - 5 <= y0 < y1 <= crop.y + crop.height + 5
        away = max(
            abs((x0 + x1) / 2 - crop.x - crop.width / 2) / crop.width,
            abs((y0 + y1) / 2 - crop.y - crop.height / 2) / crop.height,
        )
        assert away > 0.09


def test_the_network_knows_every_thing(real_artifact: Artifact) -> None:
    answers = infer([encoded(drawing) for drawing in DRAWINGS])
    for drawing, answer in zip(DRAWINGS, answers, strict=True):
        found = [shown.index for shown in answer.maps]
        assert found[: len(drawing.things)] == [thing.index for thing in drawing.things], drawing.name
        assert all(real_artifact.labels[thing.index] == thing.label for thing in drawing.things)


def test_maps_lie_on_the_things(real_artifact: Artifact) -> None:
    """Not each: a place of the map sees beyond itself. Evidence spread evenly would have a ratio of 1."""
    measured = measure_drawings()
    scores = [found for _, _, found in measured]
    assert sum(found.points for found in scores) >= len(scores) - 2
    assert all(found.inside > 1.4 * found.box for found in scores)
    assert np.mean([found.inside / found.box for found in scores]) > 2
    assert len(lines(measured)) == len(measured) + 3


def test_maps_of_two_things_in_one_picture_do_not_change_places(real_artifact: Artifact) -> None:
    """Each class's evidence lies in its own thing's box rather than in the other's."""
    pair = next(drawing for drawing in DRAWINGS if len(drawing.things) == 2)
    (answer,) = infer([encoded(pair)], [tuple(thing.index for thing in pair.things)])
    for own, shown in enumerate(answer.maps):
        inside = [score(shown.values, answer.crop, thing.box).inside for thing in pair.things]
        assert inside[own] > 4 * inside[1 - own]


def test_score_of_a_known_map() -> None:
    values = np.zeros((7, 7), np.float32)
    values[2, 5] = 3
    values[6, 0] = 1
    values[0, 0] = -9
    crop = CropBox(100.0, 50.0, 70.0, 70.0)
    assert score(values, crop, (150, 70, 160, 80)) == pytest.approx((True, 0.75, 1 / 49))
    assert score(values, crop, (155, 70, 165, 80)) == pytest.approx((True, 0.375, 1 / 49))
    assert score(values, crop, (100, 110, 110, 200)) == pytest.approx((False, 0.25, 1 / 49))
    assert score(np.zeros((7, 7), np.float32) - 1, crop, (150, 70, 160, 80)).inside == 0


def test_sheets_show_twenty_photos_each(tmp_path: Path, real_artifact: Artifact) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(DRAWINGS[0]))
    first, second = sheets([photo] * 21)
    assert first.width == second.width
    assert first.height == 5 * second.height


def test_they_are_written_to_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "DRAWINGS", DRAWINGS[1:2])
    drawings.main(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["daisy.png"]
