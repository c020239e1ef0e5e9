"""TIFF files: what the header of the first picture claims, and how its strips or tiles are decoded.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from operator import index as whole
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Window
from mmbench.datasets._rasters.formats import CodedRaster, Header, MappedRaster, Part, Raster, check_claim
from mmbench.datasets._rasters.lzw import check_lzw
from mmbench.datasets._rasters.pictures import check_jpeg

_COMPRESSIONS = {
    1: "uncompressed",
    5: "lzw",
    7: "jpeg",
    8: "deflate",
    32773: "packbits",
    32946: "deflate",
    34925: "lzma",
    50000: "zstd",
}
"""Those whose decoders write no more than they are asked for."""
_LZW, _JPEG = 5, 7
_NODATA = 42113
_BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 1, 2, 3, 6
_COPY_OR_MASK = 0b101
"""Bits of the kind of a page: a smaller copy of another page, or its mask."""
_MAX_PAGES = 16


def open_tiff(path: Path) -> Raster:
    """Read the header of a TIFF's first picture that is no smaller copy or mask of another.

    Raises:
        Exception: Of any type, if the file is damaged or of a kind that is not read.
    """
    import tifffile

    file_bytes = path.stat().st_size
    with tifffile.TiffFile(path) as tiff:
        page = _first_picture(tiff)
        compression = _check_kind(page)
        stored = np.dtype(page.dtype).newbyteorder(tiff.byteorder)
        size, channels = (whole(page.imagelength), whole(page.imagewidth)), whole(page.samplesperpixel)
        part_size = _part_size(page, size)
        palette = _palette(page, channels) if page.photometric == _PALETTE else None
        count = len(page.dataoffsets)
        form = f"{count} {'tile' if page.is_tiled else 'strip'}{'s' * (count != 1)}"
        storage = f"{compression}, {form}{', palette' * (palette is not None)}"
        form_channels = channels if palette is None else 3
        header = Header(size, form_channels, stored.newbyteorder("="), storage, _nodata(page))
        check_claim(header, file_bytes, part_size)
        planar = page.planarconfig == 2 and channels > 1
        if page.is_contiguous and palette is None:
            offset = whole(page.dataoffsets[0])
            missing = offset + stored.itemsize * channels * size[0] * size[1] - file_bytes
            if missing > 0:
                raise ValueError(f"it ends {missing} bytes early")
            return MappedRaster(header, path, offset, stored, planar)
        parts = _parts(page, header, part_size, planar, file_bytes)
        # Bound while the file is open.
        decode = _jpeg_decoder(page, part_size) if page.compression == _JPEG else _decoder(page, palette)
    return CodedRaster(header, path, parts, part_size, decode)


def _first_picture(tiff: Any) -> Any:
    """Return the first page that is no smaller copy or mask of another, else the first."""
    pages = itertools.islice(tiff.pages, _MAX_PAGES)
    return next((page for page in pages if not page.subfiletype & _COPY_OR_MASK), tiff.pages.first)


def _check_kind(page: Any) -> str:
    """Return the compression's name, having refused what would be read as other values than are meant."""
    compression = _COMPRESSIONS.get(page.compression)
    if compression is None:
        raise ValueError(
            f"its compression is {_name(page.compression)}, expected one of "
            f"{', '.join(sorted(set(_COMPRESSIONS.values())))}"
        )
    if page.dtype is None or page.imagedepth != 1:
        raise ValueError(f"it holds {page.bitspersample} bits a value or is no picture of two dimensions")
    known = page.photometric in (_BLACK_IS_ZERO, _RGB, _PALETTE)
    if 262 in page.tags and not known and not (page.photometric == _YCBCR and page.compression == _JPEG):
        raise ValueError(f"its values mean {_name(page.photometric)}, expected grey, RGB or a palette")
    return compression


def _name(value: Any) -> str:
    """Return the name of a number that has one."""
    return str(getattr(value, "name", value)).lower()


def _nodata(page: Any) -> float | None:
    """Return the value that GDAL's tag says is "not measured", None where it names none."""
    tag = page.tags.get(_NODATA)
    if tag is None:
        return None
    try:
        return float(str(tag.value).strip(" \0"))
    except ValueError:
        return None


def _part_size(page: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Return (H, W) of a tile or strip."""
    if page.is_tiled:
        return whole(page.tilelength), whole(page.tilewidth)
    return min(whole(page.rowsperstrip), size[0]), size[1]


def _palette(page: Any, channels: int) -> NDArray[np.uint8]:
    """Return the colours of a palette, (2**bits, 3) uint8."""
    colours = np.asarray(page.colormap)
    if channels != 1 or page.dtype != np.uint8 or colours.shape != (3, 2**page.bitspersample):
        raise ValueError(f"its palette is {colours.shape} for {channels} channels of {page.dtype}")
    if colours.max() > 255:  # 16 bits, as they should be
        colours = colours >> 8
    return np.ascontiguousarray(colours.T.astype(np.uint8))


def _parts(
    page: Any, header: Header, part_size: tuple[int, int], planar: bool, file_bytes: int
) -> tuple[Part, ...]:
    """Return the strips or tiles of a page, having checked that the file holds them."""
    (height, width), (high, wide) = header.size, part_size
    down, across = -(-height // high), -(-width // wide)
    expected = (header.channels if planar else 1) * down * across
    found = (len(page.dataoffsets), len(page.databytecounts))
    if found != (expected, expected):
        raise ValueError(f"its header lists {found[0]} parts, expected {expected}")
    parts = []
    for number in range(expected):
        offset, length = whole(page.dataoffsets[number]), whole(page.databytecounts[number])
        # A decoder fills what is missing with zeros, which would pass for pixels.
        if offset <= 0 or length <= 0:
            raise ValueError(f"part {number} of {expected} is empty")
        if offset + length > file_bytes:
            raise ValueError(f"it ends {offset + length - file_bytes} bytes early")
        plane, rest = divmod(number, down * across)
        top, left = rest // across * high, rest % across * wide
        window = Window(top, left, min(high, height - top), min(wide, width - left))
        channels = slice(plane, plane + 1) if planar else slice(0, header.channels)
        parts.append(Part(offset, length, window, channels))
    return tuple(parts)


def _decoder(page: Any, palette: NDArray[np.uint8] | None) -> Callable[[bytes, int], NDArray[Any]]:
    """Return the decoder of a page's parts."""
    decode_tiff, is_lzw = page.decode, page.compression == _LZW

    def decode(data: bytes, number: int) -> NDArray[Any]:
        if is_lzw:
            check_lzw(data)
        pixels: NDArray[Any] = decode_tiff(data, number)[0][0]  # (depth, H, W, C), depth 1
        return pixels if palette is None else palette[pixels[..., 0]]

    return decode


def _jpeg_decoder(page: Any, part_size: tuple[int, int]) -> Callable[[bytes, int], NDArray[Any]]:
    """Return the decoder of a page's JPEG parts, each of which has a header of its own."""
    tables = page.jpegtables
    in_colour = page.samplesperpixel == 3 and page.planarconfig == 1
    # The JPEG need not say that it holds RGB where the TIFF does; one that says what it holds is believed.
    stored = "RGB" if in_colour and page.photometric == _RGB and not page.is_jfif else None

    def decode(data: bytes, number: int) -> NDArray[Any]:
        import imagecodecs

        height, width, _ = check_jpeg(data)
        if height > part_size[0] or width > part_size[1]:
            raise ValueError(f"part {number} claims {height} x {width} pixels, expected {part_size}")
        pixels: NDArray[Any] = imagecodecs.jpeg8_decode(data, tables=tables, colorspace=stored)
        return pixels if pixels.ndim == 3 else pixels[..., None]

    return decode
