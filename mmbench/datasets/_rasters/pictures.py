"""JPEG and PNG files: what their headers claim, and how they are decoded, each in one piece.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Window
from mmbench.datasets._rasters.formats import CodedRaster, Header, Piece, check_claim

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_BARE_MARKERS = (0x01, *range(0xD0, 0xD8))
_FRAME_MARKERS = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive."""
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Colour type -> channels; a palette (3) is decoded to colours."""


def open_jpeg(path: Path) -> CodedRaster:
    """Read the header of a JPEG.

    Raises:
        ValueError: If it is none, is cut off, or claims more than it can hold.
    """
    data = path.read_bytes()
    height, width, channels = check_jpeg(data)

    def decode(coded: bytes, _: int) -> NDArray[Any]:
        import imagecodecs

        pixels: NDArray[Any] = imagecodecs.jpeg8_decode(coded)
        return pixels if pixels.ndim == 3 else pixels[..., None]

    return _single(path, Header((height, width), channels, np.dtype(np.uint8), "jpeg"), len(data), decode)


def check_jpeg(data: bytes) -> tuple[int, int, int]:
    """Return height, width and channels from a JPEG's frame header.

    Raises:
        ValueError: If it has none, or is cut off.
    """
    if not data.startswith(_JPEG_START):
        raise ValueError("it does not start as a JPEG does")
    position = 2
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAME_MARKERS:
            # The decoder fills what is missing with grey, which would pass for a height.
            if data.find(_JPEG_END, position) < 0:
                raise ValueError("it ends early")
            height, width, channels = struct.unpack(">HHB", data[position + 5 : position + 10])
            return height, width, channels
        if marker == 0xFF:  # fill bytes may precede a marker
            position += 1
        elif marker in _BARE_MARKERS:
            position += 2
        else:
            position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    raise ValueError("it has no frame header of a JPEG that is read")


def open_png(path: Path) -> CodedRaster:
    """Read the header of a PNG.

    Raises:
        ValueError: If it is none, is cut off, or claims more than it can hold.
    """
    data = path.read_bytes()
    _bare_png(data)
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if colour == 0 and depth < 8:  # the decoder would stretch the values
        raise ValueError(f"it holds {depth} bits a value, expected 8 or 16")

    def decode(coded: bytes, _: int) -> NDArray[Any]:
        import imagecodecs

        pixels: NDArray[Any] = imagecodecs.png_decode(_bare_png(coded))
        return pixels if pixels.ndim == 3 else pixels[..., None]

    dtype: np.dtype[Any] = np.dtype(np.uint16 if depth == 16 else np.uint8)
    header = Header((height, width), _PNG_CHANNELS.get(colour, 0), dtype, "png")
    return _single(path, header, len(data), decode)


def _bare_png(data: bytes) -> bytes:
    """Return a PNG with nothing but pixels and palette, having checked that all of it is undamaged.

    The decoder prints what it finds odd, and its errors are not free: imagecodecs 2026.3 gives up a reference
    to None at each, until Python dies of it.
    """
    if not data.startswith(_PNG_START) or data[12:16] != b"IHDR":
        raise ValueError("it does not start as a PNG does")
    kept, position = [data[: len(_PNG_START)]], len(_PNG_START)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4])
        kind, checksum = data[position + 4 : position + 8], data[end - 4 : end]
        if end <= len(data) and zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(checksum):
            raise ValueError(f"its chunk {kind!r} at byte {position} is damaged")
        if kind in _PNG_CHUNKS:
            kept.append(data[position:end])
        if kind == b"IEND" and end <= len(data):
            return b"".join(kept)
        position = end
    raise ValueError("it ends early")


def _single(
    path: Path, header: Header, file_bytes: int, decode: Callable[[bytes, int], NDArray[Any]]
) -> CodedRaster:
    """Return a raster that is one piece, its file."""
    check_claim(header, file_bytes)
    piece = Piece(0, file_bytes, Window(0, 0, *header.size), slice(0, header.channels))
    return CodedRaster(header, path, (piece,), header.size, decode)
