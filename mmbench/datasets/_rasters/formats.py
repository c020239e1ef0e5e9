"""What a raster file holds: its header, and its pixels, mapped or in parts that are decoded one by one.

Axes: H W pixels, C channel. A raster is always H, W, C here, whatever the order in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Window

TIFF_SUFFIXES = (".tif", ".tiff")
JPEG_SUFFIXES = (".jpg", ".jpeg")
SUFFIXES = (*TIFF_SUFFIXES, *JPEG_SUFFIXES, ".png")

_MAX_PIXELS = 2**30
"""Thirty times the largest ISPRS tile."""
_MAX_BYTES = 2**33
_MAX_RATIO = 2048
"""More than LZW, deflate or JPEG can compress; a header that claims more than that of its file lies."""
_ALWAYS_BYTES = 2**24
"""What a small file may claim all the same: a picture of one colour in a large tile."""


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        size: (H, W), pixels.
        channels: C.
        dtype: Of a value, in the machine's byte order.
        storage: How the pixels are stored, for people.
        nodata: The stored value that stands for "not measured" (GDAL's tag), or None.
    """

    size: tuple[int, int]
    channels: int
    dtype: np.dtype[Any]
    storage: str
    nodata: float | None = None


class Part(NamedTuple):
    """A part of a file that is decoded on its own: a strip, a tile, a plane of one, or the whole picture.

    Attributes:
        offset: First byte.
        length: Bytes.
        window: Where its pixels lie in the raster.
        channels: Which of the channels it holds.
    """

    offset: int
    length: int
    window: Window
    channels: slice


@dataclass(frozen=True)
class MappedRaster:
    """Pixels that stand uncompressed and without gaps in the file.

    Attributes:
        header: What the file says of itself.
        path: The file.
        offset: Of the first pixel, bytes.
        stored: Type as stored, byte order included.
        planar: Whether the file holds channel after channel.
    """

    header: Header
    path: Path
    offset: int
    stored: np.dtype[Any]
    planar: bool

    def read(self, window: Window) -> NDArray[Any]:
        """Return a window as an (H, W, C) copy; the file is mapped no longer than that takes.

        A mapping that were kept would count every page it touched as memory in use.
        """
        (height, width), channels = self.header.size, self.header.channels
        shape = (channels, height, width) if self.planar else (height, width, channels)
        # A page that lies beyond the end of a mapped file kills the process instead of raising.
        if self.path.stat().st_size < self.offset + self.stored.itemsize * height * width * channels:
            raise ValueError("it has become shorter since it was opened")
        mapped = np.memmap(self.path, self.stored, "r", self.offset, shape)
        raster = np.moveaxis(mapped, 0, -1) if self.planar else mapped
        rows, columns = slices(window)
        return np.array(raster[rows, columns], dtype=self.header.dtype)


@dataclass(frozen=True)
class CodedRaster:
    """Pixels in parts that are decoded one by one.

    Attributes:
        header: What the file says of itself.
        path: The file.
        parts: In the order of the file: plane by plane, row by row.
        part_size: (H, W) of a whole part; those at the right and bottom edge are cut.
        decode: (bytes of a part, its number) -> (H, W, C) pixels, H and W at least those of its window.
    """

    header: Header
    path: Path
    parts: tuple[Part, ...]
    part_size: tuple[int, int]
    decode: Callable[[bytes, int], NDArray[Any]]

    def touching(self, window: Window) -> Iterator[int]:
        """Yield the numbers of the parts that hold pixels of a window."""
        (height, width), (high, wide) = self.header.size, self.part_size
        down, across = -(-height // high), -(-width // wide)
        for plane in range(0, len(self.parts), down * across):
            for row in range(window.top // high, (window.top + window.height - 1) // high + 1):
                for column in range(window.left // wide, (window.left + window.width - 1) // wide + 1):
                    yield plane + row * across + column

    def read_part(self, number: int) -> NDArray[Any]:
        """Read and decode a part to (H, W, C), cut to its window."""
        part = self.parts[number]
        with self.path.open("rb") as stream:
            stream.seek(part.offset)
            data = stream.read(part.length)
        if len(data) < part.length:
            raise ValueError("it has become shorter since it was opened")
        pixels = self.decode(data, number)
        expected = (part.window.height, part.window.width, part.channels.stop - part.channels.start)
        kept = pixels[: part.window.height, : part.window.width]
        if kept.shape != expected or kept.dtype != self.header.dtype:
            raise ValueError(
                f"part {number} decodes to {pixels.shape} of {pixels.dtype}, expected {expected} of "
                f"{self.header.dtype}"
            )
        return kept if kept.shape == pixels.shape else kept.copy()  # a view would keep all of it alive


Raster = MappedRaster | CodedRaster


def count(number: int, noun: str) -> str:
    """Return a number with its noun, as `1 pixel` or `2 pixels`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def slices(window: Window) -> tuple[slice, slice]:
    """Return the rows and columns of a window."""
    return (
        slice(window.top, window.top + window.height),
        slice(window.left, window.left + window.width),
    )


def check_claim(header: Header, file_bytes: int, part_size: tuple[int, int] | None = None) -> None:
    """Refuse a header that no file of this length can stand behind, before memory is asked for.

    Args:
        header: What the file says of itself.
        file_bytes: Its length.
        part_size: (H, W) of the parts it says it is coded in; None is one part.

    Raises:
        ValueError: Naming the claim and the bound.
    """
    bound = min(_MAX_BYTES, max(_ALWAYS_BYTES, file_bytes * _MAX_RATIO))
    for what, (height, width) in (("picture", header.size), ("part", part_size or header.size)):
        num_bytes = height * width * header.channels * header.dtype.itemsize
        if min(height, width, header.channels) < 1 or height * width > _MAX_PIXELS or num_bytes > bound:
            raise ValueError(
                f"its header claims a {what} of {height} x {width} pixels of {header.channels} channels, "
                f"expected at most {_MAX_PIXELS} pixels and, in a file of {file_bytes} bytes, {bound} bytes"
            )
