"""TIFF: which kinds of pixels are decoded, for ``inspection``; the pixels of the first page, for ``decode``.

Pillow knows a TIFF's pixels by a list of kinds. It lacks kinds that are in use (a fourth channel beside CMYK, 16-bit
grey with alpha) and gets some wrong (16-bit grey with white as 0, 16 bits in separate planes). Those are read as rows
of bytes, by presenting them to Pillow as 8-bit grey, and put together here. Tags: TIFF 6.0 and its supplements 1 and 2.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from service.errors import BadImage
from service.image.formats import tiff_tags as tags
from service.image.formats.tiff_directory import Directory, read_first, with_entries
from service.image.header import Limits

_STRIPED: Final = frozenset({tags.STRIPS, tags.ROWS_PER_STRIP, tags.STRIP_BYTES})
_TILED: Final = frozenset({tags.TILE_WIDTH, tags.TILE_HEIGHT, tags.TILES, tags.TILE_BYTES})
#: Tags that affect pixels and are passed on as they are.
_KEPT: Final = frozenset(
    {
        *(tags.WIDTH, tags.HEIGHT, tags.BITS, tags.COMPRESSION, tags.PHOTOMETRIC, tags.FILL_ORDER, tags.SAMPLES),
        *(tags.PLANAR, tags.T4, tags.T6, tags.PREDICTOR, tags.COLOUR_MAP, tags.INK_SET, tags.JPEG_TABLES),
        *(tags.COEFFICIENTS, tags.SUBSAMPLING, tags.POSITIONING, tags.REFERENCE_BLACK_WHITE),
    }
)
PIXEL_TAGS: Final = _KEPT | _STRIPED | _TILED | {tags.EXTRA_SAMPLES, tags.SAMPLE_FORMAT}
#: Tags with one value per strip or tile. Of the others, the longest in use is a palette of 768 values.
_LISTS: Final = frozenset({tags.STRIPS, tags.STRIP_BYTES, tags.TILES, tags.TILE_BYTES})
_MAX_VALUES: Final = 4096

JPEG: Final = 7
#: None, LZW, Deflate by both numbers, PackBits: they compress bytes, whatever these mean.
_BYTEWISE: Final = frozenset({1, 5, 8, 32773, 32946})

#: Photometric interpretations, and how many channels their colours have.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR_COLOUR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS: Final = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR_COLOUR: 3, _LAB: 3}
#: Depths that Pillow decodes, by photometric interpretation and channels.
_DIRECT: Final = {
    **dict.fromkeys(((_WHITE_IS_ZERO, 1), (_BLACK_IS_ZERO, 1), (_PALETTE, 1)), frozenset({1, 2, 4, 8})),
    **dict.fromkeys(((_RGB, 3), (_RGB, 4), (_CMYK, 4)), frozenset({8, 16})),
    **dict.fromkeys(((_PALETTE, 2), (_YCBCR_COLOUR, 3), (_LAB, 3)), frozenset({8})),
}
#: Values of ExtraSamples: premultiplied alpha, alpha, and alpha as Corel Draw writes it.
_PREMULTIPLIED: Final = 1
_ALPHA: Final = frozenset({_PREMULTIPLIED, 2, 999})

#: Rows that are converted at a time, so that no second copy of the whole image is needed.
_ROWS: Final = 64

WARN_CHANNELS: Final = "channels of unknown meaning beside the colours were ignored"
_OTHER_KIND: Final = "pixels of this kind are not supported; send grey, RGB or CMYK with 8 or 16 bits per sample"


@dataclass(frozen=True, slots=True)
class PixelKind:
    """What a TIFF's samples mean."""

    photometric: int
    bits: int  # per sample
    samples: int  # channels: of the colour, then others
    colours: int  # channels of the colour
    alpha: int | None  # the channel with alpha
    premultiplied: bool  # by alpha
    undeclared: bool  # there are channels whose meaning the directory does not tell
    planar: bool  # each channel is stored by itself
    direct: bool  # Pillow decodes it, and rightly


def pixel_kind(directory: Directory) -> PixelKind:
    """Raises BadImage if pixels of this kind are not decoded."""
    samples = directory.value(tags.SAMPLES) or directory.count(tags.BITS) or 1
    if samples > _MAX_VALUES:
        raise BadImage(_OTHER_KIND)
    bits = directory.values(tags.BITS, samples) or (1,)
    formats = set(directory.values(tags.SAMPLE_FORMAT, samples)) or {1}
    if formats & {2, 3} or max(bits) > 16:
        name = "floating-point" if 3 in formats else "signed or 32-bit integer"
        raise BadImage(f"{name} pixels are not supported; send 8 or 16 bits per sample")
    photometric = directory.value(tags.PHOTOMETRIC)
    if photometric is None:  # required, but not always there
        photometric = _RGB if samples >= 3 else _WHITE_IS_ZERO
    elif photometric == _YCBCR_COLOUR and samples == 1:
        photometric = _BLACK_IS_ZERO
    colours = _COLOURS.get(photometric, samples + 1)
    if samples < colours or len(bits) not in (1, samples) or len(set(bits)) > 1 or not formats <= {1, 4}:
        raise BadImage(_OTHER_KIND)
    extras = directory.values(tags.EXTRA_SAMPLES, samples - colours)
    alpha = next((colours + index for index, meaning in enumerate(extras) if meaning in _ALPHA), None)
    premultiplied = alpha is not None and extras[alpha - colours] == _PREMULTIPLIED
    if premultiplied and photometric in (_WHITE_IS_ZERO, _CMYK):
        alpha = None  # less ink is whiter paper: it is on white already
    planar = samples > 1 and directory.value(tags.PLANAR) == 2
    compression, predictor = directory.value(tags.COMPRESSION) or 1, directory.value(tags.PREDICTOR) or 1
    direct = bits[0] in _DIRECT.get((photometric, samples), ())
    if photometric == _YCBCR_COLOUR:
        # Unless libtiff decodes, Pillow knows of neither subsampling nor separate planes.
        direct &= compression != 1 or (not planar and directory.values(tags.SUBSAMPLING, 2) in ((), (1, 1)))
    elif planar or (bits[0] >= 8 and directory.value(tags.FILL_ORDER) == 2 and compression != JPEG):
        direct = False
    by_bytes = (
        photometric not in (_PALETTE, _YCBCR_COLOUR)
        and bits[0] in (8, 12, 16)
        and (compression in _BYTEWISE or (compression == JPEG and planar and bits[0] == 8))
        and (predictor == 1 or (predictor == 2 and bits[0] != 12))
    )
    if not direct and not by_bytes:
        raise BadImage(_OTHER_KIND)
    undeclared = samples - colours > len(extras)
    return PixelKind(photometric, bits[0], samples, colours, alpha, premultiplied, undeclared, planar, direct)


def is_tiled(directory: Directory) -> bool:
    return not directory.entries.keys().isdisjoint({tags.TILE_WIDTH, tags.TILE_HEIGHT})


def decode_tiff(data: bytes, limits: Limits) -> tuple[Image.Image, list[str]]:
    """The first page with 8 bits per sample, and warnings. ``inspect_tiff`` must have accepted ``data``."""
    directory = read_first(data, PIXEL_TAGS)
    kind = pixel_kind(directory)
    warnings = [WARN_CHANNELS] if kind.undeclared else []
    if not kind.direct:
        return _from_channels(_channels(directory, kind), kind), warnings
    image = _opened(first_page(directory, kind))
    limits.check_size(*image.size)
    image.load()
    return image, warnings


def first_page(directory: Directory, kind: PixelKind) -> bytes:
    """The file with a directory of only the tags that affect pixels, for Pillow."""
    numbers: dict[int, tuple[int, ...]] = {
        tags.PHOTOMETRIC: (kind.photometric,),
        tags.SAMPLES: (kind.samples,),
        tags.PLANAR: (2 if kind.planar else 1,),
    }
    if kind.samples > kind.colours:
        premultiplied = kind.premultiplied and kind.photometric == _RGB  # palettes cannot be
        numbers[tags.EXTRA_SAMPLES] = (0 if kind.alpha is None else 1 if premultiplied else 2,)
    return _with(directory, numbers)


def _with(directory: Directory, numbers: dict[int, tuple[int, ...]]) -> bytes:
    """The file with a directory of the tags that affect pixels, ``numbers`` in place of their values."""
    kept = _KEPT | (_TILED if is_tiled(directory) else _STRIPED)
    entries = {
        tag: entry
        for tag, entry in directory.entries.items()
        if tag in kept and (tag in _LISTS or entry.count <= _MAX_VALUES)
    }
    return with_entries(directory.data, entries | {tag: directory.numbers(*values) for tag, values in numbers.items()})


def _opened(page: bytes) -> TiffImagePlugin.TiffImageFile:
    return TiffImagePlugin.TiffImageFile(io.BytesIO(page))


def _channels(directory: Directory, kind: PixelKind) -> NDArray[np.uint8]:
    """(height, width, channels): the high bytes of the colours' samples, and of alpha if there is one."""
    width, height = directory.value(tags.WIDTH) or 0, directory.value(tags.HEIGHT) or 0
    together = 1 if kind.planar else kind.samples
    wanted = [*range(kind.colours), *(() if kind.alpha is None else (kind.alpha,))]
    channels = np.empty((height, width, len(wanted)), np.uint8)
    for index, channel in enumerate(wanted if kind.planar else [0]):
        image = _opened(_bytes_page(directory, kind, channel, together * kind.bits))
        image.im = Image.new("L", image.size).im  # Pillow would refuse to make one with so many pixels
        image.load()
        for top in range(0, height, _ROWS):
            rows = np.array(image.crop((0, top, image.width, min(height, top + _ROWS))))
            samples = _high_bytes(rows, directory, kind, width, together)
            if kind.planar:
                channels[top : top + _ROWS, :, index] = samples[..., 0]
            else:
                channels[top : top + _ROWS] = samples[..., wanted]
    return channels


def _bytes_page(directory: Directory, kind: PixelKind, channel: int, pixel_bits: int) -> bytes:
    """The page as 8-bit grey, one pixel per byte; of separate planes only that of ``channel``."""
    numbers: dict[int, tuple[int, ...]] = dict.fromkeys(
        (tags.SAMPLES, tags.PLANAR, tags.PHOTOMETRIC, tags.PREDICTOR), (1,)
    )
    numbers |= {tags.BITS: (8,), tags.WIDTH: (-(-(directory.value(tags.WIDTH) or 0) * pixel_bits // 8),)}
    listed, sizes = (tags.TILES, tags.TILE_BYTES) if is_tiled(directory) else (tags.STRIPS, tags.STRIP_BYTES)
    if listed == tags.TILES:
        numbers[tags.TILE_WIDTH] = (-(-(directory.value(tags.TILE_WIDTH) or 0) * pixel_bits // 8),)
    if kind.planar:
        for tag in (listed, sizes):
            if values := directory.values(tag, directory.count(tag)):
                each = len(values) // kind.samples
                numbers[tag] = values[channel * each : (channel + 1) * each]
    return _with(directory, numbers)


def _high_bytes(
    rows: NDArray[np.uint8], directory: Directory, kind: PixelKind, width: int, channels: int
) -> NDArray[Any]:
    """(rows, bytes) -> (rows, width, channels), of each sample the upper 8 bits."""
    if kind.bits == 12:  # two samples in three bytes
        high = np.empty((len(rows), width * channels), np.uint8)
        high[:, 0::2] = rows[:, 0::3]
        pairs = width * channels // 2
        high[:, 1::2] = (rows[:, 1::3] << 4)[:, :pairs] | (rows[:, 2::3] >> 4)
        return high.reshape(len(rows), width, channels)
    samples = rows if kind.bits == 8 else rows.view(f"{directory.order}u2").astype(np.uint16)
    samples = samples.reshape(len(rows), width, channels)
    if directory.value(tags.PREDICTOR) == 2:  # each sample is the difference from its left neighbour in the tile
        tile = (directory.value(tags.TILE_WIDTH) if is_tiled(directory) else None) or width
        for left in range(0, width, tile):
            part = samples[:, left : left + tile]
            np.add.accumulate(part, axis=1, dtype=part.dtype, out=part)
    return samples if kind.bits == 8 else samples >> 8


def _from_channels(channels: NDArray[np.uint8], kind: PixelKind) -> Image.Image:
    size = (channels.shape[1], channels.shape[0])
    colour, alpha = channels[..., : kind.colours], channels[..., kind.colours :]
    if kind.photometric == _WHITE_IS_ZERO:
        np.invert(colour, out=colour)
    if kind.photometric in (_CMYK, _LAB):
        mode = "CMYK" if kind.photometric == _CMYK else "LAB"
        image = Image.frombytes(mode, size, colour.tobytes()).convert("RGB")
        if kind.alpha is not None:
            image.putalpha(Image.fromarray(alpha[..., 0]))
        return image
    mode = "RGB" if kind.photometric == _RGB else "L"
    if kind.alpha is not None:
        mode += "a" if kind.premultiplied else "A"
    return Image.frombytes(mode, size, channels.tobytes())
