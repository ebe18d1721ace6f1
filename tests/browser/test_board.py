"""The similarity board: its figures against NumPy's, its words, its layout, its files."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import expect

from tests.browser.pictures import File
from tests.browser.visit import Visit
from tests.e2e.process import ServerProcess


def embeddings(served: ServerProcess, files: list[File]) -> NDArray[np.float64]:
    """(photos, 1280), as /embed gives them."""
    form = [("file", (file.name, file.data)) for file in files]
    answer = httpx.post(f"{served.url}/embed", files=form, headers={"Accept": "application/x-npy"}, timeout=30)
    return np.asarray(np.load(io.BytesIO(answer.content)), np.float64)


def test_every_pair_is_what_numpy_says(visit: Visit, served: ServerProcess, photos: list[File]) -> None:
    files = photos[:4]
    visit.add(*files)
    vectors = embeddings(served, files)
    cosines = vectors @ vectors.T
    pair, matrix = visit.page.locator("#pair"), visit.page.locator("#matrix")
    rows, columns = np.triu_indices(4, 1)
    best = int(np.argmax(cosines[rows, columns]))
    expect(pair).to_contain_text(f"Most alike: {files[rows[best]].name} and {files[columns[best]].name}")
    expect(visit.page.locator("#layout-figure")).to_be_hidden()
    matrix.focus()
    for row in range(4):
        visit.page.keyboard.press("Home")
        for column in range(4):
            if row != column:
                expect(pair).to_contain_text(f"{files[row].name} and {files[column].name}: ")
                said = float(re.findall(r": (\d\.\d\d)", pair.inner_text())[0])
                assert said == pytest.approx(cosines[row, column], abs=0.0051)
            others = np.where(np.arange(4) == row, -1, cosines[row])
            expect(pair).to_contain_text(f"Most like {files[row].name}: {files[int(np.argmax(others))].name}")
            visit.page.keyboard.press("ArrowRight")
        visit.page.keyboard.press("ArrowDown")


def test_pointing_tells_the_pair(visit: Visit, photos: list[File]) -> None:
    visit.add(*photos[:3])
    canvas = visit.page.locator("#matrix-canvas")
    expect(canvas).to_be_visible()
    expect(visit.page.locator("#pair")).to_contain_text(photos[2].name)
    side = canvas.evaluate("node => node.clientWidth") / 4  # a heading and three cells, all of one size
    canvas.hover(position={"x": 2.5 * side, "y": 3.5 * side})
    expect(visit.page.locator("#pair")).to_contain_text(f"{photos[2].name} and {photos[1].name}: 0.")


def test_six_and_more_are_laid_out_by_their_components(visit: Visit, served: ServerProcess, photos: list[File]) -> None:
    files = photos[:9]
    visit.add(*files)
    spots = visit.page.locator(".spot")
    expect(spots).to_have_count(9)
    positions = "all => all.map(n => [parseFloat(n.style.left), -parseFloat(n.style.top)])"
    places = np.array(spots.evaluate_all(positions), np.float64)
    vectors = embeddings(served, files)
    left, strength, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    points = (left * strength)[:, :2]
    points *= np.sign(points[np.abs(points).argmax(0), [0, 1]])
    places -= places.mean(0)
    scale = np.linalg.norm(places) / np.linalg.norm(points)
    np.testing.assert_allclose(places, points * scale, atol=0.01 * np.abs(places).max())
    kept = (strength[:2] ** 2).sum() / (strength**2).sum()
    expect(visit.page.locator("#layout-words")).to_contain_text(f"{round(kept * 100)} % of the variance")
    # The same photos lie the same way again, in whatever order their answers come.
    visit.page.get_by_role("button", name="Remove all").click()
    visit.add(*files)
    expect(spots).to_have_count(9)
    again = np.array(spots.evaluate_all(positions), np.float64)
    np.testing.assert_allclose(again - again.mean(0), places, atol=0.5)


def test_features_as_files(visit: Visit, served: ServerProcess, photos: list[File], tmp_path: Path) -> None:
    files = [photos[3], photos[4], File('a "strange", name.jpg', "image/jpeg", photos[5].data)]
    visit.add(*files)
    expect(visit.page.locator("#board")).to_be_visible()
    vectors = embeddings(served, files).astype(np.float32)
    for button, name in (("Features as NPY", "features.npy"), ("Features as CSV", "features.csv")):
        with visit.page.expect_download() as saving:
            visit.page.get_by_role("button", name=button).click()
        assert saving.value.suggested_filename == name
        saving.value.save_as(tmp_path / name)
    loaded = np.load(tmp_path / "features.npy")
    assert (loaded.dtype.str, loaded.shape) == ("<f4", (3, 1280))
    np.testing.assert_allclose(loaded, vectors, atol=1e-5)
    with (tmp_path / "features.csv").open(newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    assert (head[0], head[1], head[-1]) == ("name", "f0", "f1279")
    assert [line[0] for line in lines] == [f.name for f in files]
    np.testing.assert_array_equal(np.array([line[1:] for line in lines], np.float32), loaded)
