"""Label files to class indices, and what stands in one that is no class.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._rasters.formats import Header, count

Colour = tuple[int, int, int]
_UNKNOWN = 254
"""Index of a pixel that is no class; it never leaves this module."""


@dataclass(frozen=True)
class LabelCode:
    """What the pixels of a label file mean: colours of classes, or class indices in one channel.

    Attributes:
        classes: Colour -> class index, below 254.
        ignored: Colours that stand for no class.
        ignored_elsewhere: Such colours of another kind of labels, to explain one that stands here.
        num_classes: K, for class indices.
        ignore_index: The index of ignored pixels, in the file (indices) and in the target.
        advice: What to do about a label that is no class.
    """

    classes: Mapping[Colour, int]
    ignored: Sequence[Colour]
    ignored_elsewhere: Sequence[Colour]
    num_classes: int
    ignore_index: int
    advice: str

    def type_problem(self, header: Header) -> str | None:
        """Say that a file is no label picture, or None."""
        if header.dtype == np.uint8 and header.channels in (1, 3, 4):
            return None
        todo = "Use the file as it was delivered"
        if header.channels == 1 and np.issubdtype(header.dtype, np.integer):
            todo = "Save the class indices as uint8"
        return (
            f"holds {count(header.channels, 'channel')} of {header.dtype}; expected 3 of uint8 (colours) or "
            f"1 (class indices). {todo}"
        )

    def decode(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Turn (H, W, C) pixels into (H, W) uint8 class indices, or None if one is no class."""
        if pixels.shape[2] == 1:
            target = pixels[..., 0]
            known = (target < self.num_classes) | (target == self.ignore_index)
            return target.copy() if known.all() else None
        packed = _pack(pixels)
        target = np.full(packed.shape, _UNKNOWN, dtype=np.uint8)
        for colour, index in self._indices().items():
            target[packed == _pack_one(colour)] = index
        return None if (target == _UNKNOWN).any() else target

    def survey(self, bands: Iterable[NDArray[np.uint8]]) -> tuple[float, float, str | None]:
        """Look through a whole file.

        Args:
            bands: Its rows from top to bottom, (rows, W, C) uint8 at a time.

        Returns:
            The smallest and the largest value, and what is wrong, or None.
        """
        unknown: Counter[Any] = Counter()
        low, high, indexed = 255, 0, False
        for band in bands:
            low, high = min(low, int(band.min())), max(high, int(band.max()))
            indexed = band.shape[2] == 1
            values, counts = np.unique(band[..., 0] if indexed else _pack(band), return_counts=True)
            for value, pixels in zip(values.tolist(), counts.tolist(), strict=True):
                if indexed and not (value < self.num_classes or value == self.ignore_index):
                    unknown[value] += pixels
                elif not indexed and (colour := _unpack(value)) not in self._indices():
                    unknown[colour] += pixels
        return low, high, self._words(unknown, indexed) if unknown else None

    def _indices(self) -> dict[Colour, int]:
        return dict(self.classes) | dict.fromkeys(self.ignored, self.ignore_index)

    def _words(self, unknown: Counter[Any], indexed: bool) -> str:
        """Say which values are no class, with pixel counts, and which there may be."""
        (value, pixels), *others = unknown.most_common()
        what = "value" if indexed else "colour"
        text = f"has {count(pixels, 'pixel')} of the {what} {value}"
        if others:
            rest = unknown.total() - pixels
            has = "has" if rest == 1 else "have"
            text += f", {rest} more {has} {count(len(others), f'other unknown {what}')}"
        stray = [] if indexed else [c for c in self.ignored_elsewhere if c in unknown]
        if stray:
            text += f"; {stray[0]} (ignored) is for eroded labels only"
        known = (
            f"0 to {self.num_classes - 1} or {self.ignore_index}"
            if indexed
            else ", ".join(map(str, self._indices()))
        )
        return f"{text}; expected only {known}. {self.advice}"


def _pack_one(colour: Colour) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _unpack(value: int) -> Colour:
    return value >> 16, value >> 8 & 255, value & 255


def _pack(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return (H, W) uint32 0xRRGGBB: one comparison a pixel instead of three."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    packed: NDArray[np.uint32] = red << np.uint32(16) | green << np.uint32(8) | blue
    return packed
