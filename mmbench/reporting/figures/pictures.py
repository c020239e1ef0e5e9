"""Arrays to pictures: classes in their colours, modalities as seen, errors; which tiles are worth showing.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.predictions import Predictions

Picture = NDArray[np.uint8]
"""(H, W, 3) uint8."""
RIGHT, WRONG, IGNORED = (222, 222, 222), (20, 20, 20), (255, 255, 255)
"""Colours of an error map; in this order also as grey."""
_TAILS = (1.0, 99.0)
"""Percentiles at which a measured image is black and white."""


def class_picture(
    classes: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]], ignore_index: int
) -> Picture:
    """Return class indices in the colours of their classes, what is ignored in black, as ISPRS draws it.

    Args:
        classes: (H, W) uint8, in the palette or ignore_index.
        palette: Colour of each class.
        ignore_index: Index of what is no class.
    """
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(palette)] = palette
    return colours[classes]


def error_picture(
    classes: NDArray[np.uint8], target: NDArray[np.uint8], ignore_index: int
) -> tuple[Picture, float | None]:
    """Return where a prediction is wrong, and the share of pixels where it is right; None if none counts."""
    counts = target != ignore_index
    right = classes == target
    colours = np.array([WRONG, RIGHT, IGNORED], dtype=np.uint8)
    picture = colours[np.where(counts, right, 2)]
    return picture, float(right[counts].mean()) if counts.any() else None


def modality_picture(image: NDArray[Any]) -> Picture:
    """Return a modality as it is looked at: three channels in colour, else the first one as grey.

    Args:
        image: (C, H, W); uint8 is shown as it is, other types from their 1st to their 99th percentile.
    """
    shown = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    if shown.dtype != np.uint8:
        low, high = np.percentile(shown, _TAILS)
        span = max(float(high - low), np.finfo(np.float32).tiny)
        shown = np.round(np.clip((shown - low) / span, 0, 1) * 255).astype(np.uint8)
    return np.moveaxis(shown, 0, -1)


def dispute(methods: Sequence[Predictions], tile_id: str, scenarios: Sequence[str]) -> float:
    """Return the share of pixels of a tile's window in which two methods differ, over pairs and scenarios.

    Args:
        methods: Two or more, with the same windows.
        tile_id: The tile.
        scenarios: To look at.
    """
    pairs = len(methods) * (len(methods) - 1) / 2
    shares = []
    for scenario in scenarios:
        stack = np.stack([method.classes[tile_id, scenario] for method in methods])
        same = np.zeros(stack.shape[1:])
        for index in range(int(stack.max()) + 1):
            votes = (stack == index).sum(0)
            same += votes * (votes - 1) / 2
        shares.append(1 - float(same.mean()) / pairs)
    return float(np.mean(shares))


def most_disputed(methods: Sequence[Predictions], scenarios: Sequence[str], count: int) -> list[str]:
    """Return the tiles that tell methods apart most, the most disputed first.

    Args:
        methods: Of the same tiles; of fewer than two, the first tiles are as good as any.
        scenarios: To look at.
        count: At most so many.
    """
    tiles = list(methods[0].windows)
    if len(methods) < 2:
        return tiles[:count]
    return sorted(tiles, key=lambda tile: -dispute(methods, tile, scenarios))[:count]
