"""Every form of an image becomes the bytes that are sent."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from fake_service import FakeService
from mobilenet_client import BadImage, Client

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


class Recorder(FakeService):
    """Answers whatever is sent."""

    def __init__(self) -> None:
        super().__init__(lambda request, number: httpx.Response(200, content=bytes(8)))

    def decoded(self) -> Image.Image:
        return Image.open(io.BytesIO(self.requests[-1].content))


@pytest.fixture
def service() -> Recorder:
    return Recorder()


@pytest.fixture
def client(service: Recorder) -> Iterator[Client]:
    with service.client() as client:
        yield client


def test_encoded_images_are_sent_as_they_are(service: Recorder, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"as it is")
    with path.open("rb") as file:
        results = client.embed_many([b"as it is", path, str(path), file, io.BytesIO(b"as it is")])
    assert results.errors == {}
    assert [request.content for request in service.requests] == [b"as it is"] * 5


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_buffers_are_sent_as_they_are(service: Recorder, client: Client, kind: type) -> None:
    client.embed(kind(b"as it is"))
    assert service.requests[0].content == b"as it is"


def test_pixels_arrive_exactly(service: Recorder, client: Client) -> None:
    for image in (PIXELS, Image.fromarray(PIXELS), PIXELS[:, ::-1][:, ::-1]):
        client.embed(image)
        np.testing.assert_array_equal(service.decoded(), PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "F"])
def test_pil_images_of_any_mode_arrive(service: Recorder, client: Client, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    client.embed(image)
    np.testing.assert_array_equal(service.decoded().convert("RGB"), image.convert("RGB"))


def test_a_pil_image_is_turned_as_its_file_would_be(service: Recorder, client: Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", exif=exif)
    client.embed(Image.open(buffer))
    assert service.decoded().getexif()[0x0112] == 6


def test_what_cannot_be_read_is_an_error_in_its_place(client: Client, tmp_path: Path) -> None:
    half = Image.open(io.BytesIO(jpeg()[:600]))
    shapes = [PIXELS[..., 0], PIXELS.astype(np.float32), PIXELS[None], np.zeros((4, 4, 4), np.uint8)]
    result = client.embed_many([b"good", tmp_path / "gone.jpg", tmp_path, half, *shapes])
    assert set(result.errors) == set(range(1, 8))
    assert all(isinstance(error, BadImage) and error.status == 0 for error in result.errors.values())
    assert "gone.jpg" in str(result.errors[1])
    assert "(5, 7)" in str(result.errors[4])


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(buffer, "JPEG")
    return buffer.getvalue()


def test_what_is_no_image_is_a_mistake_of_the_program(client: Client) -> None:
    with pytest.raises(TypeError, match="float is no image"):
        client.embed_many([b"good", 1.5])


def test_without_pillow_pixels_are_refused_and_all_else_works(
    monkeypatch: pytest.MonkeyPatch, service: Recorder, client: Client
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    client.embed(b"as it is")
    client.embed(io.BytesIO(b"as it is"))
    with pytest.raises(ImportError, match="PIL"):
        client.embed(PIXELS)
    assert len(service.requests) == 2
