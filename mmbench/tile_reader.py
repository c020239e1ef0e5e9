"""Whole tiles, window by window, every pixel read once.

Axes: B batch, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench.datasets._dataset import Dataset, Labels, Window
from mmbench.transforms import Normalizer


class TileReader:
    """Cuts one tile into normalised windows, reading and decoding every pixel once however they overlap.

    Attributes:
        target: (H, W) uint8; complete when every window has been asked for, ignore_index elsewhere.
    """

    def __init__(self, dataset: Dataset, normalizer: Normalizer, tile_id: str, *, labels: Labels) -> None:
        """Prepare; nothing is read.

        Args:
            dataset: Holds the tile.
            normalizer: Fitted on the training tiles.
            tile_id: The tile.
            labels: Which labels the target holds.
        """
        self._dataset, self._normalizer, self._tile_id, self._labels = dataset, normalizer, tile_id, labels
        self.target = np.full(dataset.size(tile_id), dataset.ignore_index, dtype=np.uint8)
        self._rows = range(0)
        self._band: dict[str, NDArray[Any]] = {}  # modality -> (C, rows, W) in its own unit

    def batches(
        self, windows: Sequence[Window], batch_size: int
    ) -> Iterator[tuple[Sequence[Window], dict[str, Tensor]]]:
        """Yield windows and their images, `batch_size` at a time; one row of windows is held in memory.

        Args:
            windows: In row-major order and of one size, as `windows.grid` makes them.
            batch_size: The last batch may be smaller.

        Yields:
            Some of the windows and modality -> (B, C, h, w) float32, mirrored beyond the tile; the next batch
            is written over it.

        Raises:
            ValueError: If a window lies above the one before.
        """
        images = {
            name: torch.empty(batch_size, channels, *windows[0][2:])
            for name, channels in self._dataset.modalities.items()
        }
        for start in range(0, len(windows), batch_size):
            part = windows[start : start + batch_size]
            for row, window in enumerate(part):
                self._hold(window)
                for name, image in images.items():
                    self._normalizer.write(name, self._cut(name, window), image[row].numpy())
            yield part, {name: image[: len(part)] for name, image in images.items()}

    def _hold(self, window: Window) -> None:
        """Read the rows of a window that are not held yet, over the width of the tile; drop those above."""
        height, width = self.target.shape
        if window.top < self._rows.start:
            raise ValueError(
                f"tile {self._tile_id}: {window} lies above row {self._rows.start}, which is held no more; "
                "expected windows in the row-major order of windows.grid"
            )
        rows = range(window.top, max(self._rows.stop, min(window.top + window.height, height)))
        if rows == self._rows:
            return
        first = max(rows.start, self._rows.stop)
        kept = {name: band[:, rows.start - self._rows.start :] for name, band in self._band.items()}
        strip = Window(first, 0, rows.stop - first, width)
        if strip.height:
            sample = self._dataset.read(self._tile_id, strip, labels=self._labels)
            self.target[first : rows.stop] = sample.target
            kept = {
                name: np.concatenate([kept[name], image], axis=1) if kept else image
                for name, image in sample.images.items()
            }
        self._band, self._rows = kept, rows

    def _cut(self, name: str, window: Window) -> NDArray[Any]:
        """Return the window of one modality from the rows held, (C, h, w) in its own unit."""
        cut = self._band[name][:, : window.height, window.left : window.left + window.width]
        missing = [(0, side - held) for side, held in zip(window[2:], cut.shape[1:], strict=True)]
        return np.pad(cut, ((0, 0), *missing), mode="symmetric") if any(map(any, missing)) else cut
