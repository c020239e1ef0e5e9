"""Windows of TIFF and JPEG files: mapped where the file allows, else decoded once and kept for a while.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Window
from mmbench.errors import DataError

_JPEG_END = b"\xff\xd9"  # cannot occur inside the coded pixels
_MAX_OPEN = 128  # every mapped file holds a file descriptor


class RasterReader:
    """Reads windows of image files, keeping what it opened up to a bound.

    A copy sent to another process starts empty.
    """

    def __init__(self, max_bytes: int = 512 * 2**20) -> None:
        """Create an empty reader.

        Args:
            max_bytes: Bound on the decoded rasters that are kept; the one in use is kept even if it is
                larger. Mapped files cost nothing here.
        """
        self.max_bytes = max_bytes
        self._open: OrderedDict[Path, NDArray[Any]] = OrderedDict()
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[RasterReader], tuple[int]]:
        return RasterReader, (self.max_bytes,)

    @property
    def held_bytes(self) -> int:
        """Bytes of the decoded rasters that are kept."""
        return sum(raster.nbytes for raster in self._open.values() if not isinstance(raster, np.memmap))

    def size(self, path: Path) -> tuple[int, int]:
        """Return (H, W), from the header alone where the file is a TIFF.

        Raises:
            DataError: If the file cannot be read.
        """
        if path not in self._sizes:
            if path.suffix.lower() in (".tif", ".tiff"):
                self._sizes[path] = _tiff_size(path)
            else:
                height, width = self._raster(path).shape[:2]
                self._sizes[path] = (height, width)
        return self._sizes[path]

    def read(self, path: Path, window: Window | None = None) -> NDArray[Any]:
        """Return a read-only window of a file, (H, W) or (H, W, C), of the file's type; None is all of it.

        Raises:
            DataError: If the file is missing, truncated or not a picture.
        """
        raster = self._raster(path)
        if window is None:
            return raster
        rows = slice(window.top, window.top + window.height)
        return raster[rows, window.left : window.left + window.width]

    def read_padded(self, path: Path, window: Window) -> NDArray[Any]:
        """Return a window that may reach beyond a one-channel file; its last row and column are repeated."""
        height, width = self.size(path)
        top, left = min(window.top, height - 1), min(window.left, width - 1)
        inside = Window(
            top,
            left,
            max(1, min(window.top + window.height, height) - top),
            max(1, min(window.left + window.width, width) - left),
        )
        missing = ((0, window.height - inside.height), (0, window.width - inside.width))
        return np.pad(self.read(path, inside), missing, mode="edge")

    def _raster(self, path: Path) -> NDArray[Any]:
        with self._lock:
            raster = self._open.pop(path, None)
            if raster is None:
                is_tiff = path.suffix.lower() in (".tif", ".tiff")
                raster = _open_tiff(path) if is_tiff else _decode_jpeg(path)
                raster.flags.writeable = False
            self._open[path] = raster
            while len(self._open) > 1 and (self.held_bytes > self.max_bytes or len(self._open) > _MAX_OPEN):
                self._open.popitem(last=False)
            return raster


def _tiff_size(path: Path) -> tuple[int, int]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            return page.imagelength, page.imagewidth
    except (OSError, ValueError, IndexError, struct.error, tifffile.TiffFileError) as error:
        _refuse(path, error)


def _open_tiff(path: Path) -> NDArray[Any]:
    """Map the first picture of a TIFF, or decode it where it is compressed."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
            # A decoder fills what is missing with zeros, which would pass for pixels.
            if max(ends, default=0) > path.stat().st_size:
                raise ValueError(f"it ends {max(ends) - path.stat().st_size} bytes early")
            raster: NDArray[Any]
            raster = tifffile.memmap(path, page=0, mode="r") if page.is_memmappable else page.asarray()
            return np.moveaxis(raster, 0, -1) if page.axes == "SYX" else raster
    # imagecodecs raises RuntimeErrors of its own for a broken stream.
    except (OSError, ValueError, IndexError, RuntimeError, struct.error, tifffile.TiffFileError) as error:
        _refuse(path, error)


def _decode_jpeg(path: Path) -> NDArray[Any]:
    """Decode a JPEG; grey values saved as three equal channels become one."""
    import imagecodecs

    try:
        data = path.read_bytes()
        # The decoder fills what is missing with grey, which would pass for a height.
        if _JPEG_END not in data[-1024:]:
            raise ValueError("it ends early")
        raster = imagecodecs.jpeg8_decode(data)
    except (OSError, ValueError, RuntimeError) as error:
        _refuse(path, error)
    if raster.ndim == 3 and int(np.ptp(raster, axis=2).max()) <= 2:  # colour conversion rounds
        raster = raster[..., 0].copy()
    return raster


def _refuse(path: Path, error: Exception) -> NoReturn:
    cause = " ".join(str(error).split())
    raise DataError(
        f"{path}: cannot be read ({cause}); expected a whole TIFF or JPEG. Unpack it again"
    ) from error
