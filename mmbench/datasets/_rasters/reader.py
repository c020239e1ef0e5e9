"""Windows of image files: mapped where the file allows, else the parts they touch are decoded and kept.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Window, row_bands
from mmbench.datasets._rasters.formats import (
    JPEG_SUFFIXES,
    TIFF_SUFFIXES,
    CodedRaster,
    Header,
    MappedRaster,
    Raster,
    slices,
)
from mmbench.datasets._rasters.pictures import open_jpeg, open_png
from mmbench.datasets._rasters.tiff import open_tiff
from mmbench.errors import DataError

_BAND_ROWS = 512


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        if error.errno is None:  # a decoder's own, about the content
            raise _not_whole(path, error) from error
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Check that it is a file and its rights"
        ) from error
    # A damaged file can break a decoder in any way.
    except Exception as error:
        raise _not_whole(path, error) from error


def _not_whole(path: Path, error: Exception) -> DataError:
    """Return the error about a file whose content cannot be decoded."""
    cause = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path}: cannot be read ({cause}); expected a whole TIFF, JPEG or PNG. Unpack it again")


def _open(path: Path) -> Raster:
    """Read a file's header, and no pixel."""
    suffix = path.suffix.lower()
    with _refusing(path):
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        if suffix in TIFF_SUFFIXES:
            return open_tiff(path)
        return open_jpeg(path) if suffix in JPEG_SUFFIXES else open_png(path)


class RasterReader:
    """Reads windows of image files, keeping what it decoded up to a bound.

    No file stays open or mapped between two reads. A copy sent to another process starts empty.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        """Create an empty reader.

        Args:
            max_bytes: Bound on the decoded parts that are kept; the one in use is kept even if it is larger.
        """
        self.max_bytes = max_bytes
        self.held_bytes = 0
        """Bytes of the decoded parts that are kept."""
        self._rasters: dict[Path, Raster] = {}
        self._parts: OrderedDict[tuple[Path, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[RasterReader], tuple[int]]:
        return RasterReader, (self.max_bytes,)

    def header(self, path: Path) -> Header:
        """Return what a file says of itself, read once.

        Raises:
            DataError: If the file is missing, is no picture, is cut off, or claims more than it can hold.
        """
        return self._raster(path).header

    def size(self, path: Path) -> tuple[int, int]:
        """Return (H, W); see `header`."""
        return self.header(path).size

    def read(self, path: Path, window: Window | None = None) -> NDArray[Any]:
        """Return a window of a file, (H, W, C), of the file's type; None is all of it.

        Raises:
            DataError: If the file is missing, truncated or not a picture.
        """
        raster = self._raster(path)
        window = window or Window(0, 0, *raster.header.size)
        if isinstance(raster, MappedRaster):
            with _refusing(path):
                return raster.read(window)
        return self._assemble(raster, window)

    def read_padded(self, path: Path, window: Window) -> NDArray[Any]:
        """Return a window that may reach beyond a file; its last row and column are repeated."""
        height, width = self.size(path)
        top, left = min(window.top, height - 1), min(window.left, width - 1)
        inside = Window(
            top,
            left,
            max(1, min(window.top + window.height, height) - top),
            max(1, min(window.left + window.width, width) - left),
        )
        if inside == window:
            return self.read(path, window)
        missing = ((0, window.height - inside.height), (0, window.width - inside.width), (0, 0))
        return np.pad(self.read(path, inside), missing, mode="edge")

    def bands(self, path: Path) -> Iterator[NDArray[Any]]:
        """Yield a file from top to bottom, (rows, W, C) at a time, so that it is never in memory as a whole.

        Raises:
            DataError: If the file is missing, truncated or not a picture.
        """
        for band in row_bands(self.size(path), _BAND_ROWS):
            yield self.read(path, band)

    def _raster(self, path: Path) -> Raster:
        raster = self._rasters.get(path)
        if raster is None:
            raster = self._rasters[path] = _open(path)
        return raster

    def _assemble(self, raster: CodedRaster, window: Window) -> NDArray[Any]:
        """Copy a window out of the parts it touches."""
        result = np.empty((window.height, window.width, raster.header.channels), raster.header.dtype)
        for number in raster.touching(window):
            part = raster.parts[number]
            top, left = max(window.top, part.window.top), max(window.left, part.window.left)
            bottom = min(window.top + window.height, part.window.top + part.window.height)
            right = min(window.left + window.width, part.window.left + part.window.width)
            common = Window(top, left, bottom - top, right - left)
            source = self._part(raster, number)[slices(_shift(common, part.window))]
            result[(*slices(_shift(common, window)), part.channels)] = source
        return result

    def _part(self, raster: CodedRaster, number: int) -> NDArray[Any]:
        """Return a decoded part, from those that are kept if it is among them."""
        key = (raster.path, number)
        with self._lock:
            part = self._parts.pop(key, None)
            if part is None:
                with _refusing(raster.path):
                    part = raster.read_part(number)
                self.held_bytes += part.nbytes
            self._parts[key] = part
            while len(self._parts) > 1 and self.held_bytes > self.max_bytes:
                self.held_bytes -= self._parts.popitem(last=False)[1].nbytes
            return part


def _shift(window: Window, origin: Window) -> Window:
    """Return a window relative to the corner of another."""
    return window._replace(top=window.top - origin.top, left=window.left - origin.left)
