"""The worst image of each kind at the default limits and its cost: time, memory, and for how long nothing else runs.

Each image asks for as much as 50 megapixels, 16 MiB and the other limits allow; which one that is was found out by
reading the decoders (ADR 10) and by trying.
"""

from __future__ import annotations

import multiprocessing
import re
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from service.config import Settings
from service.errors import ServiceError
from service.image import Limits, Transform, inspect, preprocess
from service.image.formats.bmff import can_decode
from service.serving.memory_limits import USUAL_PIXELS
from tests.hostile.images import png_writer as png
from tests.hostile.images import tiff_writer as t
from tests.hostile.images import vp8l
from tests.hostile.images.bmps import bmp
from tests.hostile.images.gifs import first_frame
from tests.hostile.images.jpeg_parts import SCAN, last_scan, segment
from tests.hostile.images.pictures import UInt8, indexed, plain
from tests.hostile.images.png_writer import chunk
from tests.hostile.images.tiff_writer import Tag, longs, shorts, tiff
from tests.hostile.images.variants import inserted
from tests.image.bmff_writer import av1, box, ispe, picture, write
from tests.image.heif_samples import sample
from tests.image.samples import encode

_MAX_BYTES: Final = Settings().max_body_bytes
LIMITS: Final = Limits(max_pixels=USUAL_PIXELS)
_TRANSFORM: Final = Transform(256, 224)
_SIDE: Final = int(LIMITS.max_pixels**0.5)


class Cost(NamedTuple):
    """What one image took. ``outcome`` is "ok" or the refusal's text."""

    name: str
    bytes: int
    megapixels: float
    inspect_ms: float
    seconds: float  # of a core, so that other work on the machine does not count
    megabytes: float
    stall_ms: float  # longest time for which another Python thread did not run
    outcome: str


def _noise(size: int) -> bytes:
    """Incompressible by itself, but short enough for a compressor to repeat it."""
    return np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()


def _png(width: int, height: int, bits: int, colour: int, *before: bytes, interlaced: bool = False) -> bytes:
    """Rows that ask for the slowest filter, of a pattern that compresses well."""
    packer, packed = zlib.compressobj(6), bytearray()
    for x, y, across, down in png.ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        size = -(-columns * bits * (4 if colour == png.RGBA else 1) // 8)
        row = b"\4" + (_noise(4_096) * (size // 4_096 + 1))[:size]
        for _ in range(rows):
            packed += packer.compress(row)
    packed += packer.flush()
    return png.assembled(png.header(width, height, bits, colour, interlaced), bytes(packed), before=before)


def _clear_colours() -> tuple[bytes, bytes]:
    return chunk(b"PLTE", _noise(768)), chunk(b"tRNS", _noise(256))


def _tiled(side: int, channels: int) -> UInt8:
    """A square of the most pixels, of one square of noise again and again."""
    tile = np.frombuffer(_noise(side * side * channels), np.uint8).reshape(side, side, channels)
    times = -(-_SIDE // side)
    return np.tile(tile, (times, times, 1))[:_SIDE, :_SIDE]


def _jpeg(mode: str, scans: int = 0) -> bytes:
    image = Image.fromarray(_tiled(256, 3) >> (2 if mode == "CMYK" else 0)).convert(mode)

    def at(quality: int) -> bytes:
        data = encode(image, "JPEG", quality=quality, subsampling=0, progressive=scans > 0)
        starts = [found.start() for found in re.finditer(SCAN, data)]
        if len(starts) > scans > 0:
            return data[: starts[scans]] + data[-2:]
        return data[:-2] + data[starts[-1] : -2] * (scans - len(starts)) + data[-2:]

    return _densest(at)


def _densest(at: Callable[[int], bytes]) -> bytes:
    """The picture at the best quality that the limit of a body allows."""
    return next(data for quality in (60, 40, 25, 15, 8, 4, 2, 1) if len(data := at(quality)) <= _MAX_BYTES)


def _gif() -> bytes:
    image = Image.fromarray(_tiled(64, 1)[..., 0] >> 3, "P")
    image.putpalette(plain().tobytes()[:768])
    return encode(image, "GIF", transparency=5)


def _run_lengths() -> bytes:
    rows = b"".join(b"".join(bytes((1, value)) for value in _noise(1_000)) + b"\0\0" for _ in range(8))
    ramp = bytes(channel for value in range(256) for channel in (value, value, value // 2, 0))
    height = LIMITS.max_rle_pixels // 1_000
    return bmp(8, rows * (height // 8), width=1_000, height=height, compression=1, table=ramp)


def _deep_tiff(tile: int | None) -> bytes:
    deflate = [shorts(t.COMPRESSION, t.DEFLATE), shorts(t.BITS, 16, 16, 16, 16), shorts(t.SAMPLES, 4)]
    deflate += [shorts(t.EXTRA_SAMPLES, 2), shorts(t.PREDICTOR, 2), longs(t.WIDTH, _SIDE)]
    if tile is None:
        return tiff([_packed(_SIDE)], [*deflate, longs(t.HEIGHT, _SIDE), longs(t.ROWS_PER_STRIP, _SIDE)])
    # As much wider and higher than the picture as is accepted.
    deflate += [longs(t.HEIGHT, LIMITS.max_pixels // _SIDE), longs(t.TILE_WIDTH, tile), longs(t.TILE_HEIGHT, tile)]
    return tiff([_packed(tile)], deflate, tiled=True)


def _deep_grey_tiff() -> bytes:
    """16-bit grey with alpha and two other channels, which Pillow has no mode for."""
    tags = [shorts(t.COMPRESSION, t.DEFLATE), shorts(t.BITS, 16, 16, 16, 16), shorts(t.SAMPLES, 4)]
    tags += [shorts(t.PHOTOMETRIC, 1), shorts(t.EXTRA_SAMPLES, 2, 0, 0), shorts(t.PREDICTOR, 2)]
    tags += [longs(t.WIDTH, _SIDE), longs(t.HEIGHT, _SIDE), longs(t.ROWS_PER_STRIP, _SIDE)]
    return tiff([_packed(_SIDE)], tags)


def _jpeg_tiff() -> bytes:
    """Progressive tiles with as many scans as are accepted, in separate data."""
    tile = encode(Image.fromarray(_tiled(256, 3)[:1_008, :1_008]), "JPEG", quality=2, progressive=True)
    starts = [found.start() for found in re.finditer(b"\xff\xda", tile)]
    tile = tile[:-2] + tile[starts[-1] : -2] * (LIMITS.free_scans - len(starts)) + tile[-2:]
    tags = [longs(t.WIDTH, 7_056), longs(t.HEIGHT, 7_056), longs(t.TILE_WIDTH, 1_008), longs(t.TILE_HEIGHT, 1_008)]
    return tiff([tile] * 49, [*tags, shorts(t.COMPRESSION, t.JPEG), shorts(t.PHOTOMETRIC, 6)], tiled=True)


def _packed(side: int) -> bytes:
    """A square of pixels of 8 bytes."""
    packer, pattern = zlib.compressobj(6), _noise(4096) * 256
    return b"".join([*(packer.compress(pattern) for _ in range(-(-side * side * 8 // len(pattern)))), packer.flush()])


def _strips() -> bytes:
    count = LIMITS.max_blocks
    tags = [longs(t.WIDTH, 762), longs(t.HEIGHT, count), longs(t.ROWS_PER_STRIP, 1), shorts(t.BITS, 8)]
    tags += [shorts(t.SAMPLES, 1), shorts(t.PHOTOMETRIC, 1)]
    tags += [Tag(t.STRIPS, t.LONG, (8,) * count), Tag(t.STRIP_BYTES, t.LONG, (762,) * count)]
    return tiff([_noise(70_000)], tags)


def _segments() -> bytes:
    data = encode(plain(), "JPEG", progressive=True)
    comments = segment(0xFE, b"") * (LIMITS.max_segments - 200)
    return inserted(data, 2, comments)[:-2] + last_scan(data) * 20 + comments + data[-2:]


def _chunks() -> bytes:
    return inserted(encode(plain(), "PNG"), png.BODY, chunk(b"teXt") * (LIMITS.max_blocks - 10))


def _blocks() -> bytes:
    data = encode(indexed(256), "GIF")
    return inserted(data, first_frame(data), b"\x21\xfe" + b"\1a" * (LIMITS.max_blocks - 2_000) + b"\0")


def _boxes() -> bytes:
    return write([picture(av1(), ispe(48, 32))], before=box(b"free") * (LIMITS.max_blocks // 16 - 100))


WORST: Final[dict[str, Callable[[], bytes]]] = {
    "jpeg, dense": lambda: _jpeg("RGB"),
    "jpeg, CMYK": lambda: _jpeg("CMYK"),
    "jpeg, progressive, 16 scans": lambda: _jpeg("RGB", scans=LIMITS.free_scans),
    "jpeg, progressive, CMYK": lambda: _jpeg("CMYK", scans=LIMITS.free_scans),
    "jpeg, 8,000 segments": _segments,
    "png, 65,000 chunks": _chunks,
    "png, 16 bits": lambda: _png(_SIDE, _SIDE, 16, png.RGBA),
    "png, 16 bits, interlaced": lambda: _png(_SIDE, _SIDE, 16, png.RGBA, interlaced=True),
    "png, 16 bits, a million a row": lambda: _png(LIMITS.max_side, LIMITS.max_pixels // LIMITS.max_side, 16, png.RGBA),
    "png, 16 bits, a million rows": lambda: _png(LIMITS.max_pixels // LIMITS.max_side, LIMITS.max_side, 16, png.RGBA),
    "png, palette": lambda: _png(
        _SIDE, _SIDE, 8, png.PALETTE, chunk(b"PLTE", _noise(768)), chunk(b"tRNS", _noise(256))
    ),
    "png, 16 bits, grey": lambda: _png(_SIDE, _SIDE, 16, png.GREY),
    "png, 1 bit, interlaced": lambda: _png(_SIDE, _SIDE, 1, png.GREY, interlaced=True),
    "webp, lossy": lambda: _densest(lambda quality: encode(_tiled(128, 4), "WEBP", method=0, quality=quality)),
    "webp, lossless": lambda: encode(_tiled(128, 4), "WEBP", method=0, lossless=True, quality=0, exact=True),
    "webp, 65,536 groups of codes": lambda: vp8l.many_groups(1_024, 65_536),
    "webp, 59,000 large groups of codes": lambda: vp8l.many_groups(1_024, 59_000, heavy=True),
    "webp, 36,000 large groups, 50 megapixels": lambda: vp8l.many_groups(_SIDE, 36_000, heavy=True),
    "gif, 63,000 blocks": _blocks,
    "gif, transparent": _gif,
    "bmp, run lengths": _run_lengths,
    "tiff, LZW": lambda: encode(Image.new("RGBA", (_SIDE, _SIDE), (90, 60, 30, 128)), "TIFF", compression="tiff_lzw"),
    "tiff, Deflate, 16 bits": lambda: _deep_tiff(None),
    "tiff, Deflate, 16 bits, one large tile": lambda: _deep_tiff(9_100),
    "tiff, Deflate, 16-bit grey with alpha": _deep_grey_tiff,
    "tiff, progressive JPEG tiles": _jpeg_tiff,
    "tiff, 65,536 strips": _strips,
    "avif, dense": lambda: _densest(lambda quality: encode(_tiled(256, 4), "AVIF", speed=10, quality=quality)),
    "avif, 12 bits, 4:4:4, alpha": lambda: sample("avif 12 bits, alpha, 50 megapixels"),
    "avif, 4,000 boxes": _boxes,
    **(
        {"heic, 12 bits, 4:4:4, alpha": lambda: sample("heic 12 bits, alpha, 50 megapixels")}
        if can_decode("heic")
        else {}
    ),
}


def measured_apart(name: str, folder: Path) -> Cost:
    """The cost of the worst case ``name``, which is made here and decoded in a process of its own."""
    data = WORST[name]()
    assert len(data) <= _MAX_BYTES, f"{name}: {len(data)} bytes would be refused"
    path = folder / "image"  # what comes through the pipe is for a moment there twice, and would count
    path.write_bytes(data)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, name, path).result()


def _measure(name: str, path: Path) -> Cost:
    """In this process, which must not have decoded anything large before: its peak is taken for the image's."""
    data = path.read_bytes()
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        warm = encode(plain(), kind)
        preprocess(warm, inspect(warm), _TRANSFORM)
    stop, longest = threading.Event(), [0.0]
    watch = threading.Thread(target=_watch, args=(stop, longest), daemon=True)
    before = _status("VmRSS")
    watch.start()
    started, pixels, outcome = time.process_time(), 0, "ok"
    inspected = started
    try:
        header = inspect(data, LIMITS)
        pixels, inspected = header.pixels, time.process_time()
        preprocess(data, header, _TRANSFORM, limits=LIMITS)
    except ServiceError as error:
        outcome = error.detail
    seconds = time.process_time() - started
    stop.set()
    watch.join()
    inspect_ms, megabytes = (inspected - started) * 1e3, _status("VmHWM") - before
    return Cost(name, len(data), pixels / 1e6, inspect_ms, seconds, megabytes, longest[0] * 1e3, outcome)


def _watch(stop: threading.Event, longest: list[float]) -> None:
    last = time.perf_counter()
    while not stop.is_set():
        time.sleep(0.001)
        now = time.perf_counter()
        longest[0] = max(longest[0], now - last - 0.001)
        last = now


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:"))
