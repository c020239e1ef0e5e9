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
    """Sums the class probabilities of overlapping windows over one tile, one row of windows at a time.

    Rows above the row of windows in hand get no more windows, so only their classes are kept: the sums of a
    tile of 6000 x 6000 pixels and 6 classes would take 864 MB.
    """

    def __init__(self, num_classes: int, size: tuple[int, int]) -> None:
        """Start with zeros.

        Args:
            num_classes: K, at most 256.
            size: (H, W) of the tile, pixels.
        """
        self._prediction = np.zeros(size, dtype=np.uint8)
        self._sums = np.zeros((num_classes, 0, size[1]), dtype=np.float32)  # of the rows from `_top` on
        self._top = 0
        self._last = (-1, -1)

    def add(self, window: Window, probabilities: Tensor) -> None:
        """Add one window's probabilities; what lies beyond the tile is left out.

        Args:
            window: Below the one before, or to the right of it in the same row, as in `grid`.
            probabilities: (K, h, w).

        Raises:
            ValueError: If windows come in another order, or after `prediction`.
        """
        if window[:2] <= self._last:
            raise ValueError(
                f"{window} comes after one at (top, left) {self._last}; "
                "expected windows in the row-major order of grid, each once"
            )
        self._last = window[:2]
        self._finish(window.top)
        height, width = self._prediction.shape
        rows = min(window.height, height - window.top)
        columns = min(window.width, width - window.left)
        missing = rows - self._sums.shape[1]
        if missing > 0:
            self._sums = np.pad(self._sums, ((0, 0), (0, missing), (0, 0)))
        inside = probabilities[:, :rows, :columns].detach().to("cpu", torch.float32).numpy()
        self._sums[:, :rows, window.left : window.left + columns] += inside

    def prediction(self) -> NDArray[np.uint8]:
        """Return the class of the largest sum, (H, W) uint8; the lower class wins a tie. Ends the tile."""
        height = len(self._prediction)
        self._finish(height)
        self._last = (height, 0)
        return self._prediction

    def _finish(self, top: int) -> None:
        """Decide the rows above `top` and move the sums of the others up."""
        held = self._sums.shape[1]
        done = min(top - self._top, held)
        if done > 0:
            self._prediction[self._top : self._top + done] = _largest(self._sums[:, :done])
            self._sums[:, : held - done] = self._sums[:, done:]
            self._sums[:, held - done :] = 0
        self._top = top


def _largest(sums: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the first class of the largest sum, (H, W) uint8; 30 times faster than argmax over axis 0."""
    largest = sums[0].copy()
    result = np.zeros(largest.shape, dtype=np.uint8)
    for k in range(1, len(sums)):
        np.maximum(result, (sums[k] > largest) * np.uint8(k), out=result)
        np.maximum(largest, sums[k], out=largest)
    return result
