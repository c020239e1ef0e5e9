"""How a modality is put together from the channels of files.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mmbench.datasets._rasters.folders import FolderIndex, Source
from mmbench.datasets._rasters.formats import count
from mmbench.settings_files import quote

Bands = tuple[tuple[str, int], ...]
"""The (source, channel) of each channel of a modality."""

_KINDS = ("optical", "height", "other")
_STORED: dict[str, Any] = {
    "uint8": np.uint8,
    "uint16": np.uint16,
    "int16": np.int16,
    "float": np.floating,
    "any": np.number,
}


@dataclass(frozen=True)
class Layer:
    """One way to read a modality.

    Attributes:
        bands: The source and channel behind each of its channels.
        kind: "optical" may be changed by photometric augmentation; "height" is one channel of metres that
            must vary over a tile; "other" need only be finite.
        stored: Type of the values in the files: "uint8", "uint16", "int16", "float" (of any length) or "any".
        steps_per_unit: Stored steps a physical unit: 10 where decimetres are stored for metres.
        surface: Whether a height is one above sea, from which the ground is to be subtracted.
        shortfall_px: How many columns or rows its files may be short of the tile; the last is repeated.
    """

    bands: Bands
    kind: Literal["optical", "height", "other"] = "other"
    stored: Literal["uint8", "uint16", "int16", "float", "any"] = "uint8"
    steps_per_unit: float = 1.0
    surface: bool = False
    shortfall_px: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be read.

        Raises:
            ValueError: Naming the attribute that is wrong.
        """
        _require_bands(self.bands)
        for attribute, value, known in (("kind", self.kind, _KINDS), ("stored", self.stored, tuple(_STORED))):
            if value not in known:
                raise ValueError(f"layer has {attribute} {quote(value)}; expected one of {', '.join(known)}")
        if self.kind == "height" and len(self.bands) != 1:
            raise ValueError(f"layer of kind {self.kind!r} has {len(self.bands)} bands; a height has one")
        if self.surface and self.kind != "height":
            raise ValueError(f"layer of kind {self.kind!r} has surface set; expected it of a height only")
        if not is_number(self.steps_per_unit) or self.steps_per_unit <= 0:
            raise ValueError(f"layer has steps_per_unit {quote(self.steps_per_unit)}; expected it above 0")
        if not is_index(self.shortfall_px):
            raise ValueError(f"layer has shortfall_px {quote(self.shortfall_px)}; expected 0 or more pixels")

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources behind the channels, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.bands))

    @property
    def dtype(self) -> type[np.generic]:
        """What the modality is read as: uint8 counts as they are stored, everything else as float32."""
        return np.uint8 if self.stored == "uint8" and self.steps_per_unit == 1 else np.float32

    @property
    def must_be_checked(self) -> bool:
        """Whether a file can hold unusable values: any counts make a picture, not so measurements."""
        return self.kind == "height" or self.stored in ("float", "any")

    def accepts(self, dtype: np.dtype[Any]) -> bool:
        """Whether a file's values have the type that this layer's have."""
        return np.issubdtype(dtype, _STORED[self.stored])


def is_number(value: object) -> bool:
    """Whether a declared value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_index(value: object) -> bool:
    """Whether a declared value is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _require_bands(bands: object) -> None:
    """Refuse bands that are not (source, channel) pairs."""
    expected = "expected one (source, channel) or more in a tuple, channels counted from 0"
    if not isinstance(bands, tuple) or not bands:
        raise ValueError(f"layer has bands {quote(bands)}; {expected}")
    for band in bands:
        is_pair = isinstance(band, tuple) and len(band) == 2
        if not (is_pair and isinstance(band[0], str) and is_index(band[1])):
            raise ValueError(f"layer has the band {quote(band)}; {expected}")


def choose_layer(
    alternatives: Iterable[Layer], index: FolderIndex, sources: Mapping[str, Source], tiles: Iterable[str]
) -> Layer:
    """Return the first way to read a modality that has all tiles, else the one that has most.

    One way serves the whole dataset, so that no two tiles differ in where their pixels come from.
    """
    tiles = tuple(tiles)

    def complete(layer: Layer) -> int:
        return sum(all(index.find(sources[name], tile) for name in layer.sources) for tile in tiles)

    return max(alternatives, key=complete)


def why_not_preferred(
    preferred: Layer, used: Layer, index: FolderIndex, sources: Mapping[str, Source], tiles: Iterable[str]
) -> str | None:
    """Say that a modality is read in another way than the preferred one, and why, or None."""
    if used == preferred:
        return None
    lacking = [
        (name, tile)
        for name in preferred.sources
        for tile in tiles
        if index.find(sources[name], tile) is None
    ]
    (name, tile), *others = lacking  # else the preferred way would have been chosen
    more = f" and {count(len(others), 'more tile')}" if others else ""
    return f"is read from {' and '.join(used.sources)} for all tiles: {name} lacks tile {tile}{more}"
