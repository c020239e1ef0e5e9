"""What makes a file of a tile unusable, in words: what it holds, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._rasters.formats import Header, count
from mmbench.datasets._rasters.layers import Layer

_LOWEST_M, _HIGHEST_M = -500, 9000
_GREY_CHANNELS = 3
_GREY_TOLERANCE = 2
"""By how much the channels of a grey picture saved in colour may differ: colour conversion rounds."""
_AS_DELIVERED = "Use the file as it was delivered"


class Values(NamedTuple):
    """What a whole file holds.

    Attributes:
        low: Smallest stored value, NaN if there is one.
        high: Largest stored value, NaN if there is one.
        grey: Whether its channels are equal but for rounding.
        gaps: How many pixels hold its nodata value.
        nodata: That value, or None.
    """

    low: float
    high: float
    grey: bool
    gaps: int
    nodata: float | None

    @property
    def gap_words(self) -> str:
        """How many pixels hold the nodata value."""
        return f"has {count(self.gaps, 'pixel')} of {self.nodata:g}, its nodata value"


def type_problem(header: Header, layer: Layer, source: str) -> str | None:
    """Say what is wrong with the channels or the type of a file, or None.

    Args:
        header: Of the file.
        layer: That reads it.
        source: Its kind among those of the layer.
    """
    needed = 1 + max(channel for name, channel in layer.bands if name == source)
    enough = header.channels >= needed
    if layer.kind == "height":  # a picture is no height, but a grey one saved in colour may be
        enough = header.channels in (1, _GREY_CHANNELS)
    enough = enough and header.channels >= needed
    if enough and layer.accepts(header.dtype):
        return None
    why = f" (its channel {needed - 1}, counted from 0, is read)" if header.channels < needed else ""
    return (
        f"holds {count(header.channels, 'channel')} of {header.dtype}; "
        f"expected {needed} of {layer.stored}{why}. {_AS_DELIVERED}"
    )


def size_problem(
    found: tuple[int, int], expected: tuple[int, int], reference: Path, shortfall_px: int = 0
) -> str | None:
    """Say that a file does not cover its tile, or None.

    Args:
        found: (H, W) of the file.
        expected: (H, W) of the tile.
        reference: The file that gives the tile its size.
        shortfall_px: How many rows or columns may be missing.
    """
    if all(0 <= e - f <= shortfall_px for e, f in zip(expected, found, strict=True)):
        return None
    return (
        f"has {found[0]} rows and {found[1]} columns but {reference} has {expected[0]} and {expected[1]}; "
        "they must cover the same tile. Unpack both again"
    )


def value_problem(values: Values, layer: Layer) -> str | None:
    """Say that the values of a whole file cannot be a measurement, or None.

    Args:
        values: Of the file.
        layer: That reads it.
    """
    low, high = values.low, values.high
    if layer.kind == "height" and not values.grey:
        return f"is a picture in colour; expected one channel of heights. {_AS_DELIVERED}"
    what = "heights" if layer.kind == "height" else "measurements"
    if values.gaps and layer.kind != "optical":  # a count of 0 may be a true black
        return f"{values.gap_words}; expected {what} without gaps. Fill the gaps"
    if np.isnan(low):
        return f"holds values that are no number; expected {what} without gaps. Fill the gaps"
    if layer.kind == "height":
        if not _LOWEST_M < low / layer.steps_per_unit <= high / layer.steps_per_unit < _HIGHEST_M:
            return (
                f"holds heights from {low:g} to {high:g}; expected metres above sea or ground without gaps. "
                f"Fill the gaps. {_AS_DELIVERED}"
            )
        if low == high:
            return f"holds the one value {low:g} everywhere; expected a measured height. Unpack it again"
    elif not abs(low) <= abs(high) + abs(low) < float("inf"):
        return f"holds values from {low:g} to {high:g}; expected finite ones. Fill the gaps"
    return None


def values_of(bands: Iterable[NDArray[Any]], nodata: float | None = None) -> Values:
    """Look through a whole file.

    Args:
        bands: Its rows from top to bottom, (rows, W, C) at a time.
        nodata: The value that stands for "not measured", if there is one.
    """
    lows, highs, grey, gaps = [], [], True, 0
    for band in bands:
        lows.append(float(band.min()))
        highs.append(float(band.max()))
        if band.shape[2] > 1:
            spread = band.max(axis=2).astype(np.float32) - band.min(axis=2)
            grey = grey and bool(spread.max() <= _GREY_TOLERANCE)
        if nodata is not None and (value := _as_stored(nodata, band.dtype)) is not None:
            gaps += int((band == value).any(axis=2).sum())
    return Values(float(np.min(lows)), float(np.max(highs)), grey, gaps, nodata)


def _as_stored(value: float, dtype: np.dtype[Any]) -> np.generic | None:
    """Return a number in a file's type, None where that cannot hold it."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return dtype.type(int(value)) if value.is_integer() and limits.min <= value <= limits.max else None
    with np.errstate(over="ignore"):
        stored: np.generic = np.float64(value).astype(dtype)
    return stored
