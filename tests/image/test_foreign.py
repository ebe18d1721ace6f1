"""What is no supported image is named, with what to do, from its first bytes and without repeating any of them."""

from __future__ import annotations

import base64
import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Sequence
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from service.errors import UnsupportedFormat
from service.image import inspect
from tests.image.samples import encode, noise

PICTURE = Image.fromarray(noise(40, 30))
IMAGES = {kind: encode(PICTURE, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")}
JPEG = IMAGES["JPEG"]
HEIC = b"\0\0\0\x24ftypheic\0\0\0\0mif1heicmiaf" + bytes(40)


def ftyp(brand: str, *others: str) -> bytes:
    """How a file of the ISO base media format (ISO/IEC 14496-12) begins."""
    box = b"ftyp" + brand.encode() + bytes(4) + "".join(others).encode()
    return (len(box) + 4).to_bytes(4, "big") + box + b"\0\0\0\x10meta" + bytes(200)


def zipped() -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    return file.getvalue()


def utf16(text: bytes, encoding: str = "utf-16") -> bytes:
    """Latin-1 text, or bytes taken for it, as UTF-16."""
    return text.decode("latin-1").encode(encoding)


def described(data: bytes) -> str:
    with pytest.raises(UnsupportedFormat) as refused:
        inspect(data)
    return refused.value.detail


FILES: dict[str, list[bytes]] = {
    "a HEIF image of a rare kind; send it as JPEG or PNG": [ftyp("avci"), ftyp("avcs"), ftyp("miaf")],
    "a JPEG XL image; send it as JPEG or PNG": [b"\xff\x0a\x7f" + bytes(9), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(9)],
    "a JPEG 2000 image; send it as JPEG or PNG": [
        encode(PICTURE, "JPEG2000"),
        encode(PICTURE, "JPEG2000", no_jp2=True),
    ],
    "a camera raw photo; send it as JPEG or PNG": [
        *(ftyp("crx "), b"FUJIFILMCCD-RAW 0201", b"FOVb\1\0\2\0", b"IIRO\x08\0", b"IIRS\x08\0", b"MMOR\0\0"),
        *(b"IIU\0\x18\0\0\0", b"\0MRM\0\0", b"II\x1a\0\0\0HEAPCCDR"),
    ],
    "a Photoshop document; ": [b"8BPS\0\1" + bytes(20), b"8BPS\0\2" + bytes(20)],
    "an icon or a cursor; ": [encode(PICTURE, "ICO"), encode(PICTURE, "ICNS"), b"\0\0\2\0\1\0\x20\x20"],
    "a TGA image; ": [encode(PICTURE, "TGA"), encode(PICTURE, "TGA", compression="tga_rle")],
    "a PNM image; ": [
        *(encode(PICTURE, "PPM"), encode(PICTURE.convert("L"), "PPM"), encode(PICTURE.convert("1"), "PPM")),
        *(b"P1\n# drawn\n1 1\n0", b"P3 1 1 255 0 0 0", b"P7\nWIDTH 1\nHEIGHT 1\n", b"Pf\n1 1\n-1.0\n"),
    ],
    "an OpenEXR or Radiance HDR image; ": [b"v/1\1\2\0", b"#?RADIANCE\n", b"#?RGBE\n"],
    "a QOI, FLIF or DDS image; ": [b"qoif\0\0\0\1", b"FLIF31", encode(PICTURE, "DDS")],
    "an image of a rare kind; ": [b"MM\0+\0\x08", b"BM" + bytes(8) + b"\x1a\0\0\0\x10\0\0\0", bytes(128) + b"DICM"],
    "a video; send one picture of it as JPEG or PNG": [
        *(ftyp(brand) for brand in ("isom", "mp41", "mp42", "avc1", "qt  ", "M4V ", "3gp5", "some")),
        *(b"\0\0\0\x08wide\0\0\0\0mdat", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI LIST", b"FLV\1\5", b"\0\0\1\xba\x44"),
        (b"\x47" + bytes(187)) * 4,
    ],
    "sound; send the image itself": [b"ID3\4", b"\xff\xfb\x90\x64", b"RIFF\0\0\0\0WAVEfmt ", b"OggS", ftyp("M4A ")],
    "a PDF document; ": [encode(PICTURE, "PDF"), b"\n%PDF-1.7"],
    "a PostScript file; ": [encode(PICTURE, "EPS"), b"\xc5\xd0\xd3\xc6\x1e"],
    "an old Office file or Thumbs.db; ": [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"],
    "gzip data; send it uncompressed": [gzip.compress(JPEG)],
    "bzip2, xz or Zstandard data; ": [b"BZh91AY&SY", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"],
    "a zip archive (as Office files are); send the images in it": [zipped()],
    "an archive (7z, RAR or tar); ": [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\7", b"a".ljust(257, b"\0") + b"ustar"],
    "a file of macOS beside a photo": [b"\0\5\x16\7\0\2\0\0Mac OS X", b"\0\0\0\1Bud1"],
    "a Git LFS pointer; send the file that it stands for": [b"version https://git-lfs.github.com/spec/v1\noid x"],
    "a file that lost its content (all bytes are 0 or 255); ": [b"\0", bytes(100_000), b"\xff" * 100],
    "a program or its data; ": [b"\x7fELF\2", b"\x93NUMPY\1", pickle.dumps(np.zeros(3)), b"bplist00"],
}

TEXTS: dict[str, list[bytes]] = {
    "an SVG drawing; send it as JPEG or PNG": [
        *(b"<svg/>", b"\xef\xbb\xbf\n <svg:svg xmlns:svg='x'>", b"<?xml version='1.0'?>\n<!-- a --><!-- b -->\n<svg>"),
        b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'x' 'y'><svg>",
    ],
    "a web page; send the image itself": [
        *(b"<!doctype html>", b"<HTML lang='de'>", b"\xef\xbb\xbf\n<!-- a -->\n<head>", b"<body>", b"<p>502</p>"),
        b"<?xml version='1.0'?><!DOCTYPE html PUBLIC 'x'>",
    ],
    "an XML document; ": [b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", b"<note>", b"<!-- open"],
    "JSON; send the image itself, decoded if it is base64": [
        *(json.dumps({key: "x"}).encode() for key in ("image", "instances", "b64", "image_base64")),
        json.dumps([{"x": base64.b64encode(JPEG).decode()}]).encode(),
    ],
    "JSON; send the image itself, or a multipart form": [b"{}", b'\xef\xbb\xbf {"a": 1}', b"[]", b"[1, 2]"],
    "a data URL; decode it and send the bytes": [
        *(b"data:image/png;base64,iVBORw0KGgo", b"'data:image/jpeg;charset=utf-8;base64,/9j/"),
        *(b"image/png;base64,iVBO", b"data:,x"),
    ],
    "a web address; send the image itself, the service fetches nothing": [
        *(b"https://example.com/cat.jpg", b"\nHTTP://EXAMPLE.COM", b'"s3://bucket/cat.jpg"', b"file:///etc/passwd"),
        *(b"blob:https://example.com/0a1b", b"www.example.com/cat.jpg"),
    ],
    "the name of a file; send the content of the file": [
        *(b"cat.jpg", b"@my cat.JPEG\n", b"/srv/photos/7", b"C:\\fakepath\\cat.png", b"./x", b"\\\\server\\share"),
    ],
    "what a program prints for bytes or an object; ": [
        *(repr(JPEG).encode(), b"[object Blob]", b"<_io.BufferedReader name='cat.jpg'>", b"<Buffer ff d8 ff e0>"),
        *(json.dumps(list(JPEG)).encode(), repr(PICTURE).encode()),
    ],
    "a URL-encoded form; ": [b"image=cat", b"file=@cat.jpg", b"photo=" + quote(JPEG).encode(), quote(JPEG).encode()],
    "a multipart form; send it with Content-Type: multipart/form-data": [
        *(
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + JPEG,
            b"\r\n--y\ncontent-type: a\n\n",
        ),
    ],
    "text; send an image": [
        b"hello",
        "Grüße\t猫\r\n".encode(),
        ("猫" * 3000).encode(),
        b"-----BEGIN X-----\n",
        b"BM is",
    ],
}


ROWS = [(sentence, data) for table in (FILES, TEXTS) for sentence in table for data in table[sentence]]


TEXT_ROWS = [row for row in ROWS if row[0] in TEXTS and row[1].isascii()]


def numbers(rows: Sequence[object]) -> list[str]:
    """Their data has times and addresses in it, and a test must have the same name in every process."""
    return [str(number) for number in range(len(rows))]


@pytest.mark.parametrize(("sentence", "data"), ROWS, ids=numbers(ROWS))
def test_what_was_sent_is_named(sentence: str, data: bytes) -> None:
    assert described(data).startswith(f"this is {sentence}")


@pytest.mark.parametrize(("sentence", "data"), TEXT_ROWS, ids=numbers(TEXT_ROWS))
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_text_is_named_in_utf_16(sentence: str, data: bytes, encoding: str) -> None:
    assert described(utf16(data, encoding)).startswith(f"this is {sentence}")


@pytest.mark.parametrize("image", [*IMAGES.values(), ftyp("avif"), HEIC], ids=[*IMAGES, "AVIF", "HEIC"])
def test_encoded_images_are_named(image: bytes) -> None:
    plain = base64.b64encode(image)
    for text in (
        *(plain, base64.urlsafe_b64encode(image), base64.encodebytes(image), b'"' + plain + b'"', b"\n" + plain),
        *(plain.replace(b"/", b"\\/"), image.hex().encode(), b"0x" + image.hex().encode(), utf16(plain)),
    ):
        assert described(text) == "this is an image as base64 or hexadecimal text; decode it and send the bytes"


@pytest.mark.parametrize("front", [b"\xef\xbb\xbf", b"\r\n", b"\n", b"\0", b" \t\n"])
@pytest.mark.parametrize("image", [*IMAGES.values(), ftyp("avif"), HEIC], ids=[*IMAGES, "AVIF", "HEIC"])
def test_blanks_in_front_of_an_image_are_damage(image: bytes, front: bytes) -> None:
    assert described(front + image).startswith("this is an image that was damaged by a transfer as text; send it unch")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_that_were_text_are_damaged(kind: str) -> None:
    image = IMAGES[kind]
    image = image[:4] + b"\x9c\x84\0\xc0" + image[8:] if kind == "WEBP" else image  # a length that is no text
    as_text = image.decode("latin-1")
    for damaged in (
        image.decode("utf-8", "replace").encode(),
        as_text.encode(),
        image.decode("cp1252", "replace").encode(),
        *([image.decode("ascii", "replace").replace("\ufffd", "?").encode()] if kind != "WEBP" else []),
        as_text.encode("utf-16-le"),
        image.decode("cp437").encode("utf-16"),
    ):
        assert described(damaged).startswith("this is an image that was damaged by a transfer as text; ")


@pytest.mark.parametrize(
    "change", [(b"\r\n", b"\n"), (b"\n", b"\r\n"), (b"\n", b"\r\r\n"), (b"\r", b""), (b"\r\n\x1a\n", b"\x1a")]
)
def test_a_png_whose_line_breaks_were_changed(change: tuple[bytes, bytes]) -> None:
    assert described(IMAGES["PNG"].replace(*change)).startswith("this is an image that was damaged by a transfer")


@pytest.mark.parametrize("front", [b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n", b"\0\0\0\x10\5", b"x" * 999])
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_an_image_behind_other_bytes(image: bytes, front: bytes) -> None:
    assert described(front + image) == "this is an image with other bytes in front; send the image alone, as binary"


@pytest.mark.parametrize("data", [b"\xff", b"\xff\xd8", b"\xc3", b"\x01\x02\x03", noise(60, 60, seed=5).tobytes()])
def test_what_is_not_known_is_not_guessed(data: bytes) -> None:
    assert described(data).startswith("this is not a supported image; send JPEG, PNG, ")


def test_only_the_beginning_counts() -> None:
    assert described(b"hello " * 1000 + JPEG) == described(b"hello")
