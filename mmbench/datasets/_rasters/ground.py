"""Height above ground from a surface model: a low percentile of the surroundings stands for the ground.

Axes: H W pixels of the tile; the grid of the estimate is far coarser.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import Window


@dataclass(frozen=True)
class GroundParameters:
    """How the ground is estimated; part of a dataset's identity.

    Attributes:
        percentile: The percentile of the surface heights around a point that stands for its ground. Low
            enough for a block of houses, high enough for the pits that image matching leaves.
        radius_m: Half the side of the square around the point, metres. A roof that fills the square would be
            taken for ground; on a slope the estimate is too low by about 0.8 x slope x radius.
        sample_m: Spacing of the surface samples the percentile is taken over, metres.
        version: Raised when the computation changes.
    """

    percentile: float = 5.0
    radius_m: float = 30.0
    sample_m: float = 1.0
    version: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Ground:
    """The ground of one tile at the nodes of a coarse grid.

    Attributes:
        height_m: (nodes down, nodes across) float32, in the datum of the surface model.
        rows: Pixel row of each node row, increasing.
        columns: Pixel column of each node column, increasing.
    """

    height_m: NDArray[np.float32]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def above(self, surface_m: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Return the height above ground of a window.

        Args:
            surface_m: (H, W) float32 surface of the window, metres.
            window: Where it lies in the tile; a pixel's result does not depend on the window.

        Returns:
            (H, W) float32 metres above the interpolated ground, 0 where the surface lies below it.
        """
        down, weight_down = _interpolate(self.rows, window.top, window.height)
        across, weight_across = _interpolate(self.columns, window.left, window.width)
        grid = np.pad(self.height_m, ((0, 1), (0, 1)), mode="edge")  # the node after the last has weight 0
        weight_down = weight_down[:, None]
        lines = grid[down] * (1 - weight_down) + grid[down + 1] * weight_down  # (H, nodes across)
        ground = lines[:, across] * (1 - weight_across) + lines[:, across + 1] * weight_across  # (H, W)
        return np.maximum(surface_m - ground, np.float32(0))


def estimate_ground(
    bands_m: Iterable[NDArray[np.floating]],
    size: tuple[int, int],
    gsd_m: float,
    parameters: GroundParameters | None = None,
) -> Ground:
    """Estimate the ground of a whole tile.

    The surface is sampled every `sample_m`. At nodes half a radius apart the ground is the percentile of the
    samples in the square around the node, cut off at the tile's border; between nodes it is interpolated
    linearly, and the border's value holds up to the tile's edge.

    Args:
        bands_m: The surface from top to bottom, (rows, W) float32 metres at a time.
        size: (H, W) of the whole.
        gsd_m: Metres per pixel.
        parameters: None takes the protocol's.
    """
    parameters = parameters or GroundParameters()
    step = max(1, round(parameters.sample_m / gsd_m))
    first = min(step // 2, min(size) - 1)
    samples = _sample(bands_m, first, step)
    reach = max(1, round(parameters.radius_m / (step * gsd_m)))
    down, across = (_nodes(extent, max(1, reach // 2)) for extent in samples.shape)
    height_m = np.empty((len(down), len(across)), dtype=np.float32)
    for i, row in enumerate(down):
        band = samples[max(0, row - reach) : row + reach + 1]
        for j, column in enumerate(across):
            square = band[:, max(0, column - reach) : column + reach + 1]
            height_m[i, j] = np.percentile(square, parameters.percentile)
    return Ground(height_m, first + step * down, first + step * across)


def _sample(bands_m: Iterable[NDArray[np.floating]], first: int, step: int) -> NDArray[np.float32]:
    """Return every step-th pixel of both axes, beginning with the one numbered `first`."""
    kept, top = [], 0
    for band in bands_m:
        start = first - top if top <= first else (first - top) % step
        kept.append(band[start::step, first::step].astype(np.float32))
        top += len(band)
    return np.concatenate(kept)


def _nodes(extent: int, spacing: int) -> NDArray[np.int64]:
    """Return sample positions about `spacing` apart, from the first sample to the last."""
    count = max(2, round((extent - 1) / spacing) + 1)
    return np.unique(np.linspace(0, extent - 1, count).round().astype(np.int64))


def _interpolate(
    nodes: NDArray[np.int64], start: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the node before each pixel of a range and the weight of the node after it; constant outside."""
    position = np.interp(np.arange(start, start + length), nodes, np.arange(len(nodes)))
    before = position.astype(np.int64)
    return before, (position - before).astype(np.float32)
