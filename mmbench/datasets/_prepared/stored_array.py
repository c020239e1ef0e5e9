"""Uncompressed arrays on disk, written from top to bottom and read by windows.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Window


@dataclass(frozen=True)
class StoredArray:
    """An .npy file whose header has been read.

    Attributes:
        path: The file.
        offset: Of the first value, bytes.
        shape: (H, W) or (H, W, C).
        dtype: Of a value.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the header of a file and check that the file has the length it claims.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no .npy file in C order, or cut off.
        """
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise ValueError(f"{path}: is an .npy of version {version}, expected 1.0 or 2.0")
            shape, fortran_order, dtype = read_header(stream)
            if fortran_order or len(shape) not in (2, 3) or dtype.hasobject:
                raise ValueError(f"{path}: holds {dtype} {shape}, expected rows, columns and channels")
            array = cls(path, stream.tell(), shape, dtype)
            array._check_length(stream.fileno())
        return array

    @property
    def num_bytes(self) -> int:
        """Length of the whole file."""
        return self.offset + self.shape[0] * self._row_bytes

    def read(self, window: Window) -> NDArray[Any]:
        """Return a window as a copy, channels first: (C, H, W), or (H, W) where there are none.

        The rows are mapped only while they are copied: pages of a mapping count as memory of the process, and
        the tiles of a dataset are many.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is not as long as it was.
        """
        with self.path.open("rb", buffering=0) as stream:
            # Touching a page behind the end of a mapped file kills the process, so this comes first.
            self._check_length(stream.fileno())
            first = self.offset + window.top * self._row_bytes
            shape = (window.height, *self.shape[1:])
            rows = np.memmap(stream, self.dtype, "r", first, shape)
        crop = rows[:, window.left : window.left + window.width]
        if crop.ndim == 3:
            crop = crop.transpose(2, 0, 1)
        return np.array(crop, order="C")

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def _check_length(self, descriptor: int) -> None:
        found = os.fstat(descriptor).st_size
        if found != self.num_bytes:
            raise ValueError(f"{self.path}: has {found} bytes, expected {self.num_bytes}")


class ArrayWriter:
    """Writes an .npy file row by row, hashed on the way: the array is never in memory as a whole."""

    def __init__(self, path: Path, height: int) -> None:
        """Create the file.

        Args:
            path: Must not be there yet.
            height: H of the whole array.
        """
        self._path, self._height = path, height
        self._stream = path.open("xb")
        self._hash = hashlib.sha256()
        self._rows = 0
        self._form: tuple[tuple[int, ...], np.dtype[Any]] | None = None

    def append(self, band: NDArray[Any]) -> None:
        """Add the next rows.

        Args:
            band: Channels first as `StoredArray.read` returns it, (C, h, W) or (h, W).

        Raises:
            ValueError: If width, channels or type differ from those of the rows before.
        """
        rows = np.ascontiguousarray(band if band.ndim == 2 else band.transpose(1, 2, 0))
        form = (rows.shape[1:], rows.dtype)
        if self._form is None:
            self._form = form
            header = {
                "descr": np.lib.format.dtype_to_descr(rows.dtype),
                "fortran_order": False,
                "shape": (self._height, *rows.shape[1:]),
            }
            start = io.BytesIO()
            np.lib.format.write_array_header_1_0(start, header)
            self._write(start.getbuffer())
        if form != self._form:
            raise ValueError(f"{self._path}: rows {self._rows} and on are {form}, those before {self._form}")
        self._write(rows.data)
        self._rows += len(rows)

    def finish(self) -> str:
        """Flush the file to its disk.

        Returns:
            The SHA-256 of the whole file as it was meant to be written, 64 hexadecimal digits.

        Raises:
            ValueError: If rows are missing.
        """
        if self._rows != self._height:
            raise ValueError(f"{self._path}: {self._rows} rows were written, expected {self._height}")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file, whole or not."""
        self._stream.close()

    def _write(self, data: memoryview) -> None:
        self._stream.write(data)
        self._hash.update(data)
