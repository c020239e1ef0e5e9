"""Normalisation with the statistics of the training split, and geometric augmentation.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Dataset

_PERCENTILES = (0.5, 99.5)
_PIXELS_PER_TILE = 2**18


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
        s = self.statistics[name]
        low, high, mean, scale = (
            np.asarray(v, dtype=np.float32)[:, None, None] for v in (s.low, s.high, s.mean, s.scale)
        )
        result: NDArray[np.float32] = (np.clip(image.astype(np.float32), low, high) - mean) / scale
        return np.clip(result, -1, 1)  # rounding may step over by one unit in the last place


def fit_normalizer(dataset: Dataset) -> Normalizer:
    """Compute the statistics of the training tiles.

    A tile of more than 2^18 pixels is sampled on a regular grid, so the result does not depend on chance.
    """
    columns: dict[str, list[NDArray[np.float32]]] = {name: [] for name in dataset.modalities}
    for tile_id in dataset.split.train:
        height, width = dataset.size(tile_id)
        step = max(1, round((height * width / _PIXELS_PER_TILE) ** 0.5))
        sample = dataset.read(tile_id)
        for name, image in sample.images.items():
            columns[name].append(image[:, ::step, ::step].reshape(image.shape[0], -1).astype(np.float32))
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
    """Turn (…, H, W) by quarter turns, then mirror it left to right."""
    turned = np.rot90(array, quarter_turns, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if flip else turned)
