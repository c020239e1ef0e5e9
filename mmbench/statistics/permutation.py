"""A test over tiles: what if the two methods' matrices of a tile were swapped?

If two methods do alike, it is chance which of them made which matrix of a tile, and the difference of their
pooled scores is one of those under all swaps. For a mean of tile scores a swap flips the sign of the tile's
difference; for a score of summed matrices, which is no mean over tiles, swapping matrices is the exact form
of the same idea. All seeds of a tile are swapped together: the tile is the unit. So the test is about the
trainings that were run, on other tiles; whether other seeds would agree is for the interval to say
(`estimates`).

Axes: R swaps, S seeds, T tiles, C scenarios, K classes, X figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbench.metrics import Counts
from mmbench.statistics.bootstrap import DEFAULT_DRAWS
from mmbench.statistics.scorers import Scorer

_MOST_EXACT_TILES = 15
"""Up to here every swap is tried: half of 2^T, as swapping all tiles only turns the sign."""
_SWAPS = 2
"""First word of the generator's key, apart from those of the bootstrap."""
_CHUNK_NUMBERS = 2**18
_ROUNDING = 1e-12
"""Differences this close are equal: the sums of swapped matrices come in another order."""


@dataclass(frozen=True)
class SwapTest:
    """Two-sided p-values of a difference being zero.

    Attributes:
        difference: (X,) of the first method's figures from the second's, means over seeds.
        p_values: (X,) NaN where the difference is undefined.
        exact: Whether every swap was tried; otherwise p = (1 + as large) / (1 + tried).
        smallest: The p-value below which no result could lie.
    """

    difference: NDArray[np.float64]
    p_values: NDArray[np.float64]
    exact: bool
    smallest: float


def swap_tiles(
    first: Counts, second: Counts, score: Scorer, *, draws: int = DEFAULT_DRAWS, generator_seed: int = 0
) -> SwapTest:
    """Test whether two methods differ, by swapping their matrices tile by tile.

    Args:
        first: (S, T, C, 3, K), see `metrics.marginals`.
        second: The same shape: the same seeds and tiles in the same order.
        score: Turns sums over tiles into figures.
        draws: Random swaps where there are too many tiles to try all.
        generator_seed: Of the random swaps.

    Raises:
        ValueError: If the shapes differ.
    """
    num_tiles = _check(first, second)
    exact = num_tiles <= _MOST_EXACT_TILES
    if exact:
        signs = _all_signs(num_tiles)
    else:
        generator = np.random.default_rng([generator_seed, _SWAPS])
        signs = generator.choice((-1.0, 1.0), size=(draws, num_tiles))
    difference = _differences(first, second, np.ones((1, num_tiles)), score)[0]
    swapped = _differences(first, second, signs, score)
    as_large = (np.abs(swapped) >= np.abs(difference) - _ROUNDING).sum(0)
    p_values = as_large / len(signs) if exact else (1 + as_large) / (1 + len(signs))
    return SwapTest(
        difference=difference,
        p_values=np.where(np.isfinite(difference), p_values, np.nan),
        exact=exact,
        smallest=1 / len(signs) if exact else 1 / (1 + len(signs)),
    )


def tile_contributions(first: Counts, second: Counts, score: Scorer) -> NDArray[np.float64]:
    """Return what each tile gives to the difference: half of what it changes when the tile is swapped.

    They add up to the difference, but for what is not linear in the score.

    Args:
        first: (S, T, C, 3, K), see `metrics.marginals`.
        second: The same shape.
        score: Turns sums over tiles into figures.

    Returns:
        (T, X)

    Raises:
        ValueError: If the shapes differ.
    """
    num_tiles = _check(first, second)
    difference = _differences(first, second, np.ones((1, num_tiles)), score)
    return (difference - _differences(first, second, 1 - 2 * np.eye(num_tiles), score)) / 2


def _check(first: Counts, second: Counts) -> int:
    """Return the number of tiles; both must have the same seeds, tiles, scenarios and classes."""
    if first.shape != second.shape:
        raise ValueError(f"counts are {first.shape} and {second.shape}; expected the same seeds and tiles")
    return int(first.shape[1])


def _all_signs(num_tiles: int) -> NDArray[np.float64]:
    """Return every way to swap all tiles but the first, (2^(T-1), T), 1 for as it is and -1 for swapped."""
    numbers = np.arange(2 ** (num_tiles - 1))[:, None]
    others = 1.0 - 2.0 * (numbers >> np.arange(num_tiles - 1) & 1)
    return np.concatenate([np.ones((len(numbers), 1)), others], axis=1)


def _differences(
    first: Counts, second: Counts, signs: NDArray[np.float64], score: Scorer
) -> NDArray[np.float64]:
    """Return the differences of the figures, means over seeds, under each row of signs, (R, X)."""
    middle = ((first + second) / 2).sum(1)  # (S, C, 3, K), the same however tiles are swapped
    halves = np.moveaxis((first - second) / 2, 1, 0)  # (T, S, C, 3, K)
    flat = halves.reshape(len(halves), -1)
    step = max(1, _CHUNK_NUMBERS // flat.shape[1])
    parts = []
    for start in range(0, len(signs), step):
        moved = (signs[start : start + step] @ flat).reshape(-1, *halves.shape[1:])
        parts.append((score(middle + moved) - score(middle - moved)).mean(1))
    return np.concatenate(parts)
