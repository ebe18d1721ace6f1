"""A map over its photo: the right place, the right colour, and nothing where there is no evidence."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.http import overlay
from service.image import CropBox, Transform, crop_box
from service.model.outputs import ClassMap

GREY = 100
TRANSFORM = Transform(256, 224)


def spot(row: int, column: int, side: int = 7) -> NDArray[np.float32]:
    """Evidence in one cell, a little against everywhere else."""
    values = np.full((side, side), -1.0, np.float32)
    values[row, column] = 4.0
    return values


def explained(values: NDArray[np.float32]) -> ClassMap:
    return ClassMap(7, "coq, “cock”", np.float32(3.25), np.float32(0.5), values)


def drawn(size: tuple[int, int], crop: CropBox, values: NDArray[np.float32], opacity: float = 1.0) -> NDArray[np.int64]:
    """(height, width, 3) over a grey photo."""
    photo = Image.new("RGB", size, (GREY, GREY, GREY))
    png = overlay.draw(photo, crop, explained(values), opacity=opacity)
    with Image.open(io.BytesIO(png)) as drawing:
        assert (drawing.format, drawing.mode, drawing.size) == ("PNG", "RGB", size)
        return np.asarray(drawing).astype(np.int64)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (224, 224), (100, 300), (3000, 900)])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 3), (6, 2), (1, 6)])
def test_the_spot_lies_where_its_cell_does(size: tuple[int, int], row: int, column: int) -> None:
    crop = crop_box(size, TRANSFORM)
    pixels = drawn(size, crop, spot(row, column))
    colour = np.abs(pixels - GREY).sum(axis=2)
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    inside = (x > crop.x + 1) & (x < crop.x + crop.width - 1) & (y > crop.y + 1) & (y < crop.y + crop.height - 1)
    across, down = (x - crop.x) / crop.width * 7 - column, (y - crop.y) / crop.height * 7 - row
    cell = (across > 0) & (across < 1) & (down > 0) & (down < 1) & inside
    far = ((across < -1) | (across > 2) | (down < -1) | (down > 2)) & inside
    assert colour[far].max() == 0
    assert colour[cell].min() > 20
    # The middle of the cell is the strongest of all: the ramp's last colour.
    middle = int(crop.y + (row + 0.5) * crop.height / 7), int(crop.x + (column + 0.5) * crop.width / 7)
    np.testing.assert_allclose(pixels[middle], (252, 253, 191), atol=12)
    outside = (x < crop.x - 1) | (x > crop.x + crop.width + 1) | (y < crop.y - 1) | (y > crop.y + crop.height + 1)
    assert set(pixels[outside].ravel()) <= {45}, "what is not seen is dimmed"


def test_no_evidence_no_colour() -> None:
    crop = CropBox(0, 0, 64, 64)
    assert (drawn((64, 64), crop, np.full((7, 7), -2.0, np.float32)) == GREY).all()
    assert (drawn((64, 64), crop, np.zeros((7, 7), np.float32)) == GREY).all()
    assert (drawn((64, 64), crop, spot(3, 3), opacity=0.0) == GREY).all()


def test_opacity_is_that_of_the_strongest_place() -> None:
    pixels = drawn((70, 70), CropBox(0, 0, 70, 70), np.full((7, 7), 3.0, np.float32), opacity=0.5)
    np.testing.assert_allclose(pixels[35, 35], (np.array([252, 253, 191]) + GREY) / 2, atol=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (223, 1)])
def test_thin_photos_show_what_is_seen_of_them(size: tuple[int, int]) -> None:
    pixels = drawn(size, crop_box(size, TRANSFORM), np.ones((7, 7), np.float32))
    covered = (np.abs(pixels - (252, 253, 191)).max(axis=2) < 3).sum()
    assert covered >= 1
    if max(size) == 5000:
        assert covered <= 2, "a pixel or two of a strip"


def test_a_crop_that_is_larger_than_the_photo() -> None:
    crop = crop_box((40, 20), Transform(resize_size=20, crop_size=40))
    assert crop == CropBox(0, -10, 40, 40)
    pixels = drawn((40, 20), crop, spot(3, 0))
    assert np.abs(pixels[8:12, 1:4] - GREY).sum(axis=2).min() > 60
    assert (pixels[:, 12:] == GREY).all()


def test_the_caption_travels_with_the_drawing() -> None:
    shown = explained(np.ones((7, 7), np.float32))
    png = overlay.draw(Image.new("RGB", (8, 8)), CropBox(0, 0, 8, 8), shown, opacity=1)
    with Image.open(io.BytesIO(png)) as drawing:
        assert drawing.info["Description"] == "class 7, coq, “cock”: logit 3.2500, probability 0.5000"
