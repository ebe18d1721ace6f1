"""What is no image of ours: other formats, archives, programs, polyglots; and good images under a wrong name."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator

import numpy as np

from tests.hostile.images.case import ANY, BAD, LOSSY, OK, TOO_LARGE, UNSUPPORTED, Case, same
from tests.hostile.images.gifs import first_frame
from tests.hostile.images.jpeg_parts import jpeg
from tests.hostile.images.pictures import indexed, plain, plain_image
from tests.hostile.images.variants import inserted
from tests.image.samples import encode


def cases() -> Iterator[Case]:
    for name, data in _formats():
        yield Case(f"foreign: {name}", data, UNSUPPORTED)
    yield from _polyglots()
    yield from _names()
    yield from _degenerate()


def _formats() -> Iterator[tuple[str, bytes]]:
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg" width="320" height="240"><rect width="9" height="9"/></svg>'
    entity = b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    yield "SVG behind XML", b'<?xml version="1.0"?>' + entity + b"<svg>&a;</svg>"
    laughs = b"<!DOCTYPE l [<!ENTITY a 'ha'>" + b"<!ENTITY b '&a;&a;&a;&a;'>" * 30 + b"]>"
    yield "SVG of a thousand million laughs", laughs + b"<svg>&b;</svg>"
    for kind in ("PDF", "EPS", "TGA", "PCX", "PPM", "SGI", "DDS"):
        yield kind, encode(plain(), kind)
    for kind in ("ICO", "ICNS"):
        yield kind, encode(plain_image().resize((64, 64)), kind)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\nshowpage\n"
    yield "PostScript that would run", script
    yield "PSD", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 240, 320, 8, 3) + bytes(12) + plain().tobytes()
    yield "CUR", b"\0\0\2\0\1\0" + bytes(40)
    yield "JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200)
    yield "JPEG 2000 codestream", b"\xff\x4f\xff\x51" + bytes(200)
    yield "JPEG XL", b"\xff\x0a" + bytes(200)
    yield "JPEG-LS without a beginning", b"\xff\xf7" + bytes(200)
    for brand in (b"mp42", b"qt  ", b"jp2 "):
        box = b"\0\0\0\x1cftyp" + brand + b"\0\0\0\0" + brand + b"isomiso2"
        yield f"{brand.decode()} (ISO media)", box + bytes(400)
    yield "Matroska", b"\x1a\x45\xdf\xa3" + bytes(200)
    yield "ZIP", _archive()
    yield "gzip", b"\x1f\x8b\x08" + bytes(200)
    yield "ELF", b"\x7fELF\2\1\1" + bytes(200)
    yield "Windows program", b"MZ" + bytes(200)
    yield "Python pickle", b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    array = io.BytesIO()
    np.save(array, plain())
    yield "NumPy array", array.getvalue()
    yield "HTML", b"<!DOCTYPE html><script>alert(1)</script>"
    yield "JSON", b'{"image": "data:image/png;base64,iVBORw0KGgo="}'
    yield "URL", b"http://169.254.169.254/latest/meta-data/"
    yield "text", b"eine Photographie, in Worten"
    yield "text that begins like a BMP", b"BM is how this text begins, and it goes on for a while after that"
    yield "text in UTF-16", "photo".encode("utf-16")
    yield "zeros", bytes(100_000)
    yield "ones", b"\xff" * 100_000
    yield "noise", np.random.default_rng(1).integers(0, 255, 100_000, np.uint8).tobytes()
    yield "one byte", b"\xff"
    yield "base64 of a JPEG", b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQ"
    yield "a JPEG behind a space", b" " + encode(plain(), "JPEG")
    yield "a JPEG behind a byte order mark", b"\xef\xbb\xbf" + encode(plain(), "JPEG")


def _archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/cron.d/photo.jpg", bytes(1_000_000))
    return buffer.getvalue()


def _polyglots() -> Iterator[Case]:
    photo, gif = jpeg(), encode(indexed(256), "GIF")
    yield same("polyglot: JPEG and ZIP", photo + _archive(), LOSSY)
    yield same("polyglot: PNG and ZIP", encode(plain(), "PNG") + _archive())
    script = b"\xff\xfe\x00\x2a*/=1;alert(document.domain);/*<script>alert(1)".ljust(44, b" ")
    yield same("polyglot: JPEG and JavaScript", inserted(photo, 2, script), LOSSY)
    script_gif = inserted(gif, first_frame(gif), b"\x21\xfe\x0f*/=1;alert(1)//\0") + b"*/"
    yield same("polyglot: GIF and JavaScript", script_gif, like="256 colours")
    yield Case("polyglot: PDF and JPEG", b"%PDF-1.7\n" + photo, UNSUPPORTED)
    yield same("polyglot: JPEG and PDF", photo + b"%PDF-1.7\n" + bytes(1_000), LOSSY)
    yield same("polyglot: JPEG and PHP", inserted(photo, 2, b"\xff\xfe\0\x1c<?php system($_GET[0]); ?>"), LOSSY)
    yield Case("polyglot: GIF that is a program", b"GIF89a=1;alert(1)//" + bytes(200), ANY)
    bmp = b"BM" + bytes(12) + b"\x28\0\0\0" + b"text" * 100
    yield Case("polyglot: BMP that is a text", bmp, BAD | TOO_LARGE)
    yield same("polyglot: TIFF and PDF", encode(plain(), "TIFF") + b"%PDF-1.7\n")


def _names() -> Iterator[Case]:
    for content_type in (
        *("image/png", "image/svg+xml", "text/html", "application/json", "application/x-www-form-urlencoded"),
        *("audio/mpeg", "", "no type at all", "image/jpeg; charset=utf-8", "/", "image/" + "x" * 2_000),
    ):
        yield same(f"content type: {content_type[:60] or 'empty'}", jpeg(), LOSSY, content_type=content_type)


def _degenerate() -> Iterator[Case]:
    noise = np.random.default_rng(2).integers(0, 256, (5_000, 1, 3), np.uint8)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        for name, pixels in (("1x5000", noise), ("5000x1", noise.swapaxes(0, 1)), ("1x1", noise[:1])):
            yield Case(f"{kind.lower()}: {name}", encode(np.ascontiguousarray(pixels), kind), OK)
    yield Case("png: 3x60000", encode(np.zeros((60_000, 3, 3), np.uint8), "PNG"), OK)
    for magic in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"II*\0", b"MM\0*", b"II+\0"):
        yield Case(f"magic alone: {magic!r}", magic)
        yield Case(f"magic and zeros: {magic!r}", magic + bytes(10_000))
        yield Case(f"magic and ones: {magic!r}", magic + b"\xff" * 10_000, BAD | TOO_LARGE)
