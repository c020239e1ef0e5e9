"""Windows over a tile, and how their class probabilities are put together again.

Axes: K class, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmbench.datasets._dataset import Window


def grid(size: tuple[int, int], window: int, overlap: float) -> list[Window]:
    """Cover a tile with square windows that overlap.

    Args:
        size: (H, W) of the tile, pixels.
        window: Side of a window, pixels; where the tile is smaller, it reaches beyond (the reader pads).
        overlap: Share of a window that the next one covers again, 0 <= overlap < 1.

    Returns:
        Windows in row-major order; the last of a row or column is moved inwards to end with the tile.

    Raises:
        ValueError: If overlap is outside [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}, expected 0 <= overlap < 1")
    stride = max(1, round(window * (1 - overlap)))
    tops, lefts = (_starts(side, window, stride) for side in size)
    return [Window(top, left, window, window) for top in tops for left in lefts]


def _starts(side: int, window: int, stride: int) -> list[int]:
    """Return the first pixel of each window along one side."""
    last = max(0, side - window)
    return [*range(0, last, stride), last]


class Stitcher:
    """Sums the class probabilities of overlapping windows over one tile."""

    def __init__(self, num_classes: int, size: tuple[int, int]) -> None:
        """Start with zeros.

        Args:
            num_classes: K.
            size: (H, W) of the tile, pixels.
        """
        self._sums = torch.zeros(num_classes, *size)

    def add(self, window: Window, probabilities: Tensor) -> None:
        """Add one window's (K, h, w) probabilities; what lies beyond the tile is left out."""
        bottom = min(window.top + window.height, self._sums.shape[1])
        right = min(window.left + window.width, self._sums.shape[2])
        inside = probabilities[:, : bottom - window.top, : right - window.left]
        self._sums[:, window.top : bottom, window.left : right] += inside.to(self._sums)

    def prediction(self) -> NDArray[np.uint8]:
        """Return the class of the largest sum, (H, W) uint8; the lower class wins a tie."""
        result: NDArray[np.uint8] = self._sums.argmax(0).to(torch.uint8).numpy()
        return result
