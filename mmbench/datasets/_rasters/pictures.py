"""JPEG and PNG files: what their headers claim, and how they are decoded, each in one part.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Window
from mmbench.datasets._rasters.formats import CodedRaster, Header, Part, check_claim

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_BARE_MARKERS = (0x01, *range(0xD0, 0xD8))
_FRAME_MARKERS = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive."""
_PROGRESSIVE = 0xC2
_JPEG_SCAN = b"\xff\xda"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_LAST_BYTES = 32
"""At the end of the coded pixels: more than an encoder may pad them with, less than a row of most."""
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
    is_checked = False

    def decode(coded: bytes, _: int) -> NDArray[Any]:
        import imagecodecs

        nonlocal is_checked
        pixels: NDArray[Any] = imagecodecs.jpeg8_decode(coded)
        if not is_checked:  # once: it takes as long again twice
            _check_scan(coded, pixels)
            is_checked = True
        return pixels if pixels.ndim == 3 else pixels[..., None]

    return _single(path, Header((height, width), channels, np.dtype(np.uint8), "jpeg"), len(data), decode)


def check_jpeg(data: bytes) -> tuple[int, int, int]:
    """Return height, width and channels from a JPEG's frame header.

    Raises:
        ValueError: If it has none, or is cut off.
    """
    frame = _find_frame(data)
    height, width, channels = struct.unpack(">HHB", data[frame + 5 : frame + 10])
    return height, width, channels


def _find_frame(data: bytes) -> int:
    """Return where the frame header of a JPEG that is not cut off begins."""
    if not data.startswith(_JPEG_START):
        raise ValueError("it does not start as a JPEG does")
    position = 2
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAME_MARKERS:
            # The decoder fills what is missing with grey, which would pass for a height.
            if data.find(_JPEG_END, position) < 0:
                raise ValueError("it ends early")
            return position
        if marker == 0xFF:  # fill bytes may precede a marker
            position += 1
        elif marker in _BARE_MARKERS:
            position += 2
        else:
            position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    raise ValueError("it has no frame header of a JPEG that is read")


def _check_scan(data: bytes, pixels: NDArray[Any]) -> None:
    """Refuse a JPEG whose coded pixels end too early or too late: the decoder says nothing of either.

    Damage puts a decoder out of step, so that it runs out of bytes before its last pixel, or has some left.
    In the first case bytes put at the end change the picture, in the second a change of the last ones does
    not. Limits: damage may by chance, or thanks to restart markers, leave the end where it was; of a
    progressive JPEG only bytes that are missing from its last scan show.

    Args:
        data: The file.
        pixels: What it decodes to.

    Raises:
        ValueError: If so.
    """
    import imagecodecs

    frame = _find_frame(data)
    scan = data.rfind(_JPEG_SCAN, 0, data.find(_JPEG_END, frame))
    if scan < 0:
        raise ValueError("it has no pixels")
    start = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4])
    end = data.find(_JPEG_END, start)
    coded, rest = data[start:end].rstrip(b"\xff"), data[end:]  # fill bytes may precede a marker
    longer = data[:start] + coded + b"\x55\xaa" * _LAST_BYTES + rest
    if not np.array_equal(pixels, imagecodecs.jpeg8_decode(longer)):
        raise ValueError("its coded pixels end early")
    last_restart = max((match.end() for match in re.finditer(_RESTART, coded)), default=0)
    start, bare = start + last_restart, coded[last_restart:].replace(b"\xff\x00", b"\xff")
    if data[frame + 1] == _PROGRESSIVE or len(bare) <= _LAST_BYTES:
        return
    last = bytes(byte ^ 0x55 for byte in bare[-_LAST_BYTES:])
    changed = (bare[:-_LAST_BYTES] + last).replace(b"\xff", b"\xff\x00")
    if np.array_equal(pixels, imagecodecs.jpeg8_decode(data[:start] + changed + rest)):
        raise ValueError("its coded pixels are followed by others")


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
    """Return a raster that is one part, its file."""
    check_claim(header, file_bytes)
    part = Part(0, file_bytes, Window(0, 0, *header.size), slice(0, header.channels))
    return CodedRaster(header, path, (part,), header.size, decode)
