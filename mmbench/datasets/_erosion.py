"""Eroded labels from full ones: what lies near another class is ignored.

Axes: H W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EROSION_RADIUS = 3
"""Pixels; the radius of ISPRS's own eroded labels."""


def erode(target: NDArray[np.uint8], ignore_index: int, radius: int = EROSION_RADIUS) -> NDArray[np.uint8]:
    """Return (H, W) uint8, the target with ignore where the disc around a pixel holds more than one class.

    Args:
        target: (H, W) uint8 class index; what is ignored counts as a class of its own.
        ignore_index: Written where classes meet.
        radius: Of the disc, pixels.
    """
    height, width = target.shape
    padded = np.pad(target, radius, mode="edge")
    mixed = np.zeros(target.shape, np.bool_)
    for down in range(2 * radius + 1):
        for right in range(2 * radius + 1):
            if (down - radius) ** 2 + (right - radius) ** 2 <= radius**2:
                mixed |= padded[down : down + height, right : right + width] != target
    return np.where(mixed, np.uint8(ignore_index), target)
