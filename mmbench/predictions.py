"""What a method predicted on one window of every test tile, for pictures beside the scores.

Images and truth are not stored: their licence may forbid to pass them on. Axes: H W pixels.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Window
from mmbench.errors import DataError

LARGEST_SIDE = 512
"""Of the window kept of a tile, pixels: enough for a panel of a page, little beside a tile of 6000."""
_WINDOWS = "windows"
_HEADER_BYTES = 2**12
"""More than numpy writes before an array's values."""
_ENCRYPTED = 1
"""Of the flags of a file in an archive."""


@dataclass
class Predictions:
    """Predicted classes by tile and scenario.

    Attributes:
        windows: Tile -> the window that is kept, in the order of the split.
        classes: (tile, scenario) -> (H, W) uint8 class indices of that window.
    """

    windows: dict[str, Window] = field(default_factory=dict)
    classes: dict[tuple[str, str], NDArray[np.uint8]] = field(default_factory=dict)

    def add(self, tile_id: str, scenario: str, prediction: NDArray[np.uint8]) -> None:
        """Keep the central window of a tile's prediction.

        Args:
            tile_id: The tile.
            scenario: Under which it was predicted.
            prediction: (H, W) uint8 of the whole tile; it may be written over afterwards.
        """
        height, width = prediction.shape
        window = central_window((height, width))
        self.windows[tile_id] = window
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        self.classes[tile_id, scenario] = prediction[rows, columns].copy()


def central_window(size: tuple[int, int], side: int = LARGEST_SIDE) -> Window:
    """Return the square window at a tile's centre; along a side that is shorter, all of the tile.

    Args:
        size: (H, W) of the tile, pixels.
        side: Of the window, pixels.
    """
    height, width = (min(side, whole) for whole in size)
    return Window((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions; the same ones give the same bytes.

    Args:
        path: The file, written over.
        predictions: Every tile under every scenario.
    """
    tiles = list(predictions.windows)
    scenarios = list(dict.fromkeys(scenario for _, scenario in predictions.classes))
    arrays: dict[str, NDArray[np.integer]] = {
        _WINDOWS: np.array([predictions.windows[tile] for tile in tiles], dtype=np.int64).reshape(-1, 4)
    }
    for name, tile_id, scenario in _members(tiles, scenarios):
        arrays[name] = predictions.classes[tile_id, scenario]
    with path.open("wb") as stream:  # given a path, numpy would add a suffix
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def load_predictions(
    path: Path, tiles: Sequence[str], scenarios: Sequence[str], num_classes: int
) -> Predictions:
    """Read predictions that may be a stranger's: nothing is read before its type and size are known.

    Args:
        path: The file.
        tiles: Of the record, in its order.
        scenarios: Of the record.
        num_classes: K.

    Raises:
        DataError: If the file is missing, damaged, too large, or holds another thing than the record says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            expected = {_WINDOWS, *(name for name, _, _ in _members(tiles, scenarios))}
            shapes = _shapes(archive, {f"{name}.npy" for name in expected}, len(tiles))
        with np.load(path, allow_pickle=False) as stored:
            windows = [Window(*(int(value) for value in row)) for row in stored[_WINDOWS]]
            predictions = Predictions(windows=dict(zip(tiles, windows, strict=True)))
            for name, tile_id, scenario in _members(tiles, scenarios):
                _check_window(predictions.windows[tile_id], shapes[f"{name}.npy"], tile_id)
                values = stored[name]
                if values.max() >= num_classes:
                    raise ValueError(
                        f"tile {tile_id}, {scenario!r}: class {values.max()} is outside 0..{num_classes - 1}"
                    )
                predictions.classes[tile_id, scenario] = values
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"predictions {path}: cannot be read ({error}); run the cell again") from error
    return predictions


def _members(tiles: Sequence[str], scenarios: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (name in the file, tile, scenario); tiles go by their place, for their ids may hold anything."""
    for index, tile_id in enumerate(tiles):
        for scenario in scenarios:
            yield f"{index}.{scenario}", tile_id, scenario


def _shapes(archive: zipfile.ZipFile, expected: set[str], tile_count: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of every array by its header alone.

    Raises:
        ValueError: If there are other arrays than expected, or one is of another type or too large.
    """
    found = {info.filename: info for info in archive.infolist()}
    if found.keys() != expected or len(archive.infolist()) != len(expected):
        odd = sorted(found.keys() ^ expected)
        raise ValueError(f"{len(archive.infolist())} arrays, expected {len(expected)}; first odd: {odd[:3]}")
    shapes = {}
    for name, info in found.items():
        if info.compress_type != zipfile.ZIP_DEFLATED or info.flag_bits & _ENCRYPTED:
            raise ValueError(f"{name} is packed in another way than numpy packs")
        is_windows = name == f"{_WINDOWS}.npy"
        with archive.open(info) as stream:
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        fits = shape == (tile_count, 4) if is_windows else _is_panel(shape)
        content = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype != (np.int64 if is_windows else np.uint8) or not fits:
            raise ValueError(f"{name} is {shape} {dtype}; expected {_expected_words(is_windows, tile_count)}")
        if info.file_size > content + _HEADER_BYTES:
            raise ValueError(f"{name} has {info.file_size} bytes, expected {content} and a header")
        shapes[name] = shape
    return shapes


def _is_panel(shape: tuple[int, ...]) -> bool:
    """Whether an array may be the classes of a window."""
    return len(shape) == 2 and all(0 < side <= LARGEST_SIDE for side in shape)


def _expected_words(is_windows: bool, tile_count: int) -> str:
    """Say what an array should have been."""
    return f"({tile_count}, 4) int64" if is_windows else f"two sides of 1 to {LARGEST_SIDE}, uint8"


def _check_window(window: Window, shape: tuple[int, ...], tile_id: str) -> None:
    """Refuse a window that is not as large as what was predicted in it."""
    if window[2:] != shape or min(window[:2]) < 0:
        raise ValueError(f"tile {tile_id}: {window}, but {shape} predicted classes")
