"""What the pixels of a tile, or of many, add up to, read in bands so that a large tile takes little memory.

Axes: C channel, H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmbench.datasets._dataset import Dataset, Window, row_bands

BAND_PIXELS = 2**20
"""Read at once, or one row: what a reader and this module hold meanwhile is some 100 bytes a pixel."""

Limits = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Modality -> (lower, upper) clipping value of each channel."""


class Tally:
    """Counts and ranges over the tiles that were added, under the labels that the protocol reads of them.

    Attributes:
        pixels: How many.
        classes: (K,) int64 pixels of each class.
        ignored: Pixels without a class.
        low: Modality -> (C,) float64 smallest value; NaN where one is not a number.
        high: Modality -> (C,) float64 largest value.
        total: Modality -> (C,) float64 sum of the values.
        outside: Modality -> (C,) int64 values outside the limits.
    """

    def __init__(self, dataset: Dataset, limits: Limits | None = None) -> None:
        """Start with nothing.

        Args:
            dataset: Where the tiles are.
            limits: Where values are clipped; None counts none as outside.
        """
        self._dataset, self._limits = dataset, limits or {}
        channels = dataset.modalities
        self.pixels = self.ignored = 0
        self.classes = np.zeros(dataset.num_classes, dtype=np.int64)
        self.low = {name: np.full(count, np.inf) for name, count in channels.items()}
        self.high = {name: np.full(count, -np.inf) for name, count in channels.items()}
        self.total = {name: np.zeros(count) for name, count in channels.items()}
        self.outside = {name: np.zeros(count, dtype=np.int64) for name, count in channels.items()}

    @property
    def stray(self) -> int:
        """Pixels whose target is neither a class nor ignored."""
        return self.pixels - self.ignored - int(self.classes.sum())

    def add(self, tile_id: str) -> None:
        """Add all pixels of a tile.

        Raises:
            DataError: If a file is missing or wrong; what was read before it stays counted.
        """
        size = self._dataset.size(tile_id)
        for band in row_bands(size, max(1, BAND_PIXELS // size[1])):
            self._add_band(tile_id, band)

    def _add_band(self, tile_id: str, band: Window) -> None:
        dataset = self._dataset
        sample = dataset.read(tile_id, band, labels=dataset.split.labels_of(tile_id))
        counts = np.bincount(sample.target.ravel(), minlength=256)
        self.pixels += sample.target.size
        self.ignored += int(counts[dataset.ignore_index])
        self.classes += counts[: len(self.classes)]
        for name, image in sample.images.items():
            self.low[name] = np.minimum(self.low[name], image.min(axis=(1, 2)))
            self.high[name] = np.maximum(self.high[name], image.max(axis=(1, 2)))
            self.total[name] += image.sum(axis=(1, 2), dtype=np.float64)
            if name in self._limits:
                # float32 as in normalisation, where these values are clipped
                low, high = (np.asarray(v, dtype=np.float32)[:, None, None] for v in self._limits[name])
                self.outside[name] += np.count_nonzero((image < low) | (image > high), axis=(1, 2))
