"""How a modality is put together from the channels of files.

Axes: H W pixels, C channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mmbench.datasets._rasters.folders import FolderIndex, Source

Bands = tuple[tuple[str, int], ...]
"""The (source, channel) of each channel of a modality."""

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
            ValueError: If there is no band, or a height has more than one.
        """
        if not self.bands or (self.kind == "height" and len(self.bands) != 1):
            raise ValueError(f"layer of kind {self.kind!r} has {len(self.bands)} bands; a height has one")

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
