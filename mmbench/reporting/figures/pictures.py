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
Colour = tuple[int, int, int]
"""Red, green, blue in [0, 255]."""
RIGHT, WRONG, IGNORED = (222, 222, 222), (20, 20, 20), (255, 255, 255)
"""Colours of an error map; in this order also as grey."""
BOTH_RIGHT, ONLY_FIRST, ONLY_SECOND, BOTH_DIFFER, BOTH_ALIKE, UNCOUNTED = range(6)
"""What two predictions of a pixel are: right, wrong in different ways or in the same one, or not counted."""
VERDICT_COLOURS: tuple[Colour, ...] = (
    (224, 224, 224),
    (0, 100, 170),
    (220, 140, 0),
    (20, 20, 20),
    (186, 186, 186),
    (255, 255, 255),
)
"""By these numbers. Blue and orange are told apart by colour-blind readers; as grey, all six are."""
_TAILS = (1.0, 99.0)
"""Percentiles at which a measured image is black and white."""


def class_picture(classes: NDArray[np.uint8], palette: Sequence[Colour], ignore_index: int) -> Picture:
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
    colours = np.array([WRONG, RIGHT, IGNORED], dtype=np.uint8)
    picture = colours[np.where(target != ignore_index, classes == target, 2)]
    return picture, right_share(classes, target, ignore_index)


def right_share(classes: NDArray[np.uint8], target: NDArray[np.uint8], ignore_index: int) -> float | None:
    """Return the share of the pixels that count on which a prediction is right; None if none counts."""
    counts = target != ignore_index
    return float((classes == target)[counts].mean()) if counts.any() else None


def verdicts(
    first: NDArray[np.uint8], second: NDArray[np.uint8], target: NDArray[np.uint8], ignore_index: int
) -> NDArray[np.uint8]:
    """Return who is right on each pixel: `BOTH_RIGHT` and what follows it.

    Args:
        first: (H, W) uint8 classes that one method predicts.
        second: Those of another.
        target: The truth.
        ignore_index: Of truth that counts nowhere.
    """
    first_right, second_right = first == target, second == target
    found = np.where(first == second, BOTH_ALIKE, BOTH_DIFFER)
    found[first_right] = ONLY_FIRST
    found[second_right] = ONLY_SECOND
    found[first_right & second_right] = BOTH_RIGHT
    found[target == ignore_index] = UNCOUNTED
    return found.astype(np.uint8)


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
