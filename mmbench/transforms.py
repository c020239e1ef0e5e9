"""Normalisation with the statistics of the training split, and geometric and photometric augmentation.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Dataset, row_bands

_PERCENTILES = (0.5, 99.5)
_PIXELS_PER_TILE = 2**18
_STRIP_ROWS = 512
"""A tile is read in strips of about so many rows: all of it at once would be hundreds of megabytes."""

_ROW_GAP = 16


@dataclass(frozen=True)
class ChannelStatistics:
    """One modality over the training tiles, in its own unit; one number a channel.

    Attributes:
        low: Lower clipping value, the 0.5 % percentile.
        high: Upper clipping value, the 99.5 % percentile.
        mean: Mean after clipping.
        scale: Largest deviation from the mean after clipping.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]


@dataclass(frozen=True)
class Normalizer:
    """Maps each modality to [-1, 1] with 0 at the training mean."""

    statistics: Mapping[str, ChannelStatistics]

    def __call__(self, name: str, image: NDArray[Any]) -> NDArray[np.float32]:
        """Normalise one modality.

        Args:
            name: The modality.
            image: (C, H, W) in its own unit.

        Returns:
            (C, H, W) float32 in [-1, 1].
        """
        result = np.empty(image.shape, dtype=np.float32)
        self.write(name, image, result)
        return result

    def write(self, name: str, image: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Normalise one modality into memory that is there already.

        Args:
            name: The modality.
            image: (C, H, W) in its own unit; not written, and in any memory layout.
            out: (C, H, W) float32, filled with values in [-1, 1].
        """
        s = self.statistics[name]
        # Channel by channel and in place: a channel of a window stays in the cache from one line to the next.
        for source, result, *numbers in zip(image, out, s.low, s.high, s.mean, s.scale, strict=True):
            low, high, mean, scale = (np.float32(number) for number in numbers)
            np.copyto(result, source, casting="unsafe")
            np.clip(result, low, high, out=result)
            np.subtract(result, mean, out=result)
            np.divide(result, scale, out=result)
            np.clip(result, -1, 1, out=result)  # rounding may step over by one unit in the last place


@dataclass(frozen=True)
class PhotometricChange:
    """A change of light, the same for all optical channels of a sample; in normalised units."""

    brightness: float
    contrast: float

    def apply(self, image: NDArray[np.float32]) -> None:
        """Change a normalised image in place: times contrast, plus brightness, clipped to [-1, 1]."""
        np.multiply(image, np.float32(self.contrast), out=image)
        np.add(image, np.float32(self.brightness), out=image)
        np.clip(image, -1, 1, out=image)


def draw_photometric(strength: float, seed: int, number: int) -> PhotometricChange:
    """Draw the change of light of one sample; its generator is its own, so the geometry never depends on it.

    Args:
        strength: s in [0, 0.5]; brightness is uniform in [-s, s], contrast in [1 - s, 1 + s].
        seed: Of the cell.
        number: Of the sample.
    """
    rng = random_generator("photometric", seed, number)
    return PhotometricChange(
        brightness=float(rng.uniform(-strength, strength)),
        contrast=float(rng.uniform(1 - strength, 1 + strength)),
    )


def fit_normalizer(dataset: Dataset) -> Normalizer:
    """Compute the statistics of the training tiles.

    A tile of more than 2^18 pixels is sampled on a regular grid, so the result does not depend on chance.
    """
    columns: dict[str, list[NDArray[np.float32]]] = {name: [] for name in dataset.modalities}
    for tile_id in dataset.split.train:
        height, width = dataset.size(tile_id)
        step = max(1, round((height * width / _PIXELS_PER_TILE) ** 0.5))
        strip = step * max(1, _STRIP_ROWS // step)  # so that every strip begins on the grid
        for band in row_bands((height, width), strip):
            sample = dataset.read(tile_id, band)
            for name, image in sample.images.items():
                values = image[:, ::step, ::step].reshape(image.shape[0], -1)
                columns[name].append(values.astype(np.float32))
    return Normalizer({name: _channel_statistics(np.concatenate(c, axis=1)) for name, c in columns.items()})


def _channel_statistics(values: NDArray[np.float32]) -> ChannelStatistics:
    """Return the statistics of (C, pixels)."""
    low, high = np.percentile(values, _PERCENTILES, axis=1)
    clipped = np.clip(values, low[:, None], high[:, None]).astype(np.float64)
    mean = clipped.mean(axis=1)
    scale = np.maximum(high - mean, mean - low)
    scale = np.where(scale > 0, scale, 1.0)  # a constant channel stays 0 everywhere
    rows = (tuple(float(v) for v in row) for row in (low, high, mean, scale))
    return ChannelStatistics(*rows)


def random_generator(purpose: str, *key: int) -> np.random.Generator:
    """Return the generator of one purpose and key, the same in every process and on every machine."""
    tag = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.default_rng([tag, *key])


def turn(array: NDArray[Any], quarter_turns: int, flip: bool) -> NDArray[Any]:
    """Turn (…, H, W) by quarter turns, then mirror it left to right; the result is a view, not contiguous."""
    if quarter_turns % 2:
        # The columns are read next. Where rows lie a power of two apart, as in a tile of 4096, a column falls
        # into a single set of the cache and reading it takes five times as long.
        width = array.shape[-1]
        apart = np.empty((*array.shape[:-1], width + _ROW_GAP), dtype=array.dtype)[..., :width]
        np.copyto(apart, array)
        array = apart
    view = np.rot90(array, quarter_turns, axes=(-2, -1))
    return view[..., ::-1] if flip else view
