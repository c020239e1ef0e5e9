"""Class colours to class indices, and what stands in a label picture that is no class.

Axes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
UNKNOWN = 254
"""Index of a pixel whose colour is no class; it never leaves the reader."""


def decode_colours(picture: NDArray[np.uint8], indices: Mapping[Colour, int]) -> NDArray[np.uint8]:
    """Turn a label picture into class indices.

    Args:
        picture: (H, W, 3) uint8 red, green, blue.
        indices: Colour -> class index, below 254, or 255 for ignored pixels.

    Returns:
        (H, W) uint8 class index, `UNKNOWN` where the colour is not among `indices`.
    """
    packed = _pack(picture)
    target = np.full(packed.shape, UNKNOWN, dtype=np.uint8)
    for (red, green, blue), index in indices.items():
        target[packed == (red << 16 | green << 8 | blue)] = index
    return target


def unknown_colours(picture: NDArray[np.uint8], indices: Mapping[Colour, int]) -> dict[Colour, int]:
    """Count the colours of a label picture that are not among `indices`.

    Args:
        picture: (H, W, 3) uint8 red, green, blue.
        indices: The known colours.

    Returns:
        Colour -> pixels, the most frequent first.
    """
    values, counts = np.unique(_pack(picture), return_counts=True)
    found: dict[Colour, int] = {}
    for value, count in sorted(zip(values.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1]):
        colour = (value >> 16, value >> 8 & 255, value & 255)
        if colour not in indices:
            found[colour] = count
    return found


def describe_unknown(found: Mapping[Colour, int], known: Mapping[Colour, int]) -> str:
    """Say which unknown colours a label picture holds, with pixel counts, and which it may hold."""
    colour, count = next(iter(found.items()))
    text = f"{count} pixels have the colour {colour}"
    if len(found) > 1:
        text += f", {sum(found.values()) - count} more have {len(found) - 1} other unknown colours"
    if (0, 0, 0) in found:
        text += "; black (ignored) is for the eroded labels only"
    return f"{text}; expected only {', '.join(map(str, known))}"


def _pack(picture: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return (H, W) uint32 0xRRGGBB: one comparison a pixel instead of three."""
    red, green, blue = (picture[..., channel].astype(np.uint32) for channel in range(3))
    packed: NDArray[np.uint32] = red << np.uint32(16) | green << np.uint32(8) | blue
    return packed
