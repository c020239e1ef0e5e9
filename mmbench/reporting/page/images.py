"""Pictures as addresses that hold their own content, so that a page refers to no file.

Axes: H W pixels.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Sequence

import imagecodecs
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmbench.profiling.figure_style import STYLE
from mmbench.reporting.figures.pictures import Colour

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ZLIB_LEVEL = 7
"""A tenth more bytes than level 9 in a sixth of the time."""
_JPEG_LEVEL = 88
"""Of 100: no difference to be seen at the size of a page."""


def palette_png(indices: NDArray[np.uint8], colours: Sequence[Colour]) -> bytes:
    """Write a picture of few colours: a quarter of the bytes that it takes in true colour.

    Args:
        indices: (H, W) uint8, each the place of a colour.
        colours: At most 256, in [0, 255].

    Raises:
        ValueError: If there is no pixel, or an index without a colour.
    """
    if indices.ndim != 2 or not indices.size or int(indices.max()) >= len(colours) or len(colours) > 256:
        raise ValueError(
            f"palette_png: indices {indices.shape}, {len(colours)} colours; expected (H, W) and each below "
            "the number of colours, of which 256 are the most"
        )
    height, width = indices.shape
    lines = np.zeros((height, 1 + width), dtype=np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = indices
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", bytes(value for colour in colours for value in colour)),
        (b"IDAT", zlib.compress(lines.tobytes(), _ZLIB_LEVEL)),
        (b"IEND", b""),
    )
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Return a part of a PNG with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_address(indices: NDArray[np.uint8], colours: Sequence[Colour]) -> str:
    """Return a picture of few colours, as `palette_png` takes it, as an address."""
    return _address("image/png", palette_png(indices, colours))


def jpeg_address(picture: NDArray[np.uint8]) -> str:
    """Return a photograph, (H, W, 3) uint8, as an address."""
    return _address(
        "image/jpeg", bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(picture), level=_JPEG_LEVEL))
    )


def svg_address(figure: Figure) -> str:
    """Return a figure as an address; as an image it can neither run nor load anything."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return _address("image/svg+xml", stream.getvalue().encode())


def _address(kind: str, content: bytes) -> str:
    """Return some bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
