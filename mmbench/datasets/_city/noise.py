"""Random fields, computed elementwise: the same bits whatever the number of threads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def value_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> NDArray[np.float32]:
    """Return a random field whose values are drawn on a grid and interpolated between.

    Args:
        rng: Source of the grid's values.
        shape: (H, W), pixels.
        cell: Spacing of the grid, pixels, at least 1.

    Returns:
        (H, W) float32, mean about 0, standard deviation about 0.7.
    """
    rows, top = _grid_position(rng, shape[0], cell)
    columns, left = _grid_position(rng, shape[1], cell)
    grid = rng.standard_normal((int(top[-1]) + 2, int(left[-1]) + 2), dtype=np.float32)
    strips = grid[top] + (grid[top + 1] - grid[top]) * rows[:, None]  # (H, gw)
    field: NDArray[np.float32] = strips[:, left]  # (H, W)
    field += (strips[:, left + 1] - field) * columns
    return field


def blocky_noise(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> NDArray[np.float32]:
    """Return a random field that is constant on squares of `cell` pixels: (H, W) float32, unit deviation."""
    grid = rng.standard_normal((-(-shape[0] // cell), -(-shape[1] // cell)), dtype=np.float32)
    return grid.repeat(cell, axis=0)[: shape[0]].repeat(cell, axis=1)[:, : shape[1]]


def _grid_position(
    rng: np.random.Generator, length: int, cell: float
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return the eased fraction and the index of the grid line below, for each pixel of one axis."""
    position = np.arange(length) / max(cell, 1.0) + rng.random()
    below = position.astype(np.intp)
    fraction = (position - below).astype(np.float32)
    return fraction * fraction * (3 - 2 * fraction), below
