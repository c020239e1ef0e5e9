"""The smallest difference that a split and some seeds can resolve, and what would resolve another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from scipy.stats import t as student

from mmbench.statistics.estimates import Estimate

_MOST_NEEDED = 10_000
"""Beyond this many seeds or tiles the answer is that more of them do not help."""
_MANY_DEGREES = 1e6
_SHARES = (np.arange(1000) + 0.5) / 1000


@dataclass(frozen=True)
class Needed:
    """What would resolve a difference, the rest being as it is; at least what there is.

    Attributes:
        seeds: On the same tiles; None if no number of seeds would do, or one seed alone tells nothing.
        tiles: With the same seeds; None likewise.
    """

    seeds: int | None
    tiles: int | None


def resolvable_difference(estimate: Estimate, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest true difference that the t-test of a pair finds with a given chance.

    It is of one pair looked at alone: a correction for many pairs makes it larger.

    Args:
        estimate: Of the difference; its spread counts, its value does not.
        alpha: Level of the two-sided test.
        power: Chance to find it, above alpha.

    Returns:
        In the unit of the score; None where there is no spread to tell it from.
    """
    if estimate.standard_error is None:
        return None
    return estimate.standard_error * _errors_apart(estimate.freedom, alpha, power)


def needed(estimate: Estimate, difference: float, alpha: float = 0.05, power: float = 0.8) -> Needed:
    """Return how many seeds or tiles would resolve a difference, from how each of them adds to the spread.

    Args:
        estimate: Of the difference of a pair, with the spread that was seen.
        difference: To be resolved, in the unit of the score.
        alpha: Level of the two-sided test.
        power: Chance to find it, above alpha.
    """
    seeds, tiles = estimate.num_seeds, estimate.num_tiles

    def least(start: int, extrapolated: Callable[[int], Estimate]) -> int | None:
        return _least(start, extrapolated, abs(difference), alpha, power) if start > 1 else None

    return Needed(
        seeds=least(seeds, lambda number: _extrapolate(estimate, number, tiles)),
        tiles=least(tiles, lambda number: _extrapolate(estimate, seeds, number)),
    )


def _errors_apart(degrees: float, alpha: float, power: float) -> float:
    """Return how many standard errors from zero a difference is found with a given power."""
    degrees = min(degrees, _MANY_DEGREES)
    # The critical distance in true errors, for evenly likely estimates of the error. Their mean is the
    # non-central t's tail, whose library function fails for many degrees of freedom.
    errors = np.sqrt(chi2.ppf(_SHARES, degrees) / degrees)
    critical = student.ppf(1 - alpha / 2, degrees) * errors
    return float(
        brentq(lambda distance: norm.sf(critical - distance).mean() - power, 0.0, 2 * critical[-1] + 10)
    )


def _extrapolate(estimate: Estimate, num_seeds: int, num_tiles: int) -> Estimate:
    """Return the spread that other numbers of seeds and tiles would have.

    The part of tiles falls with their number, that of seeds with theirs, and what both leave, the noise of
    one seed on one tile, with the product.
    """
    more_tiles, more_seeds = estimate.num_tiles / num_tiles, estimate.num_seeds / num_seeds
    tile, seed = estimate.tile_error**2, estimate.seed_error**2
    rest = max(0.0, (estimate.standard_error or 0.0) ** 2 - tile - seed)
    return replace(
        estimate,
        standard_error=math.sqrt(tile * more_tiles + seed * more_seeds + rest * more_tiles * more_seeds),
        tile_error=math.sqrt(tile * more_tiles),
        seed_error=math.sqrt(seed * more_seeds),
        num_seeds=num_seeds,
        num_tiles=num_tiles,
    )


def _least(
    start: int, extrapolated: Callable[[int], Estimate], difference: float, alpha: float, power: float
) -> int | None:
    """Return the smallest number from a start that resolves a difference, None if too many are needed.

    The floor need not fall all the way: where few seeds are what is left of the spread, the degrees of
    freedom are theirs. So the number is sought upwards from the start, not down from the end.
    """

    def resolves(number: int) -> bool:
        found = resolvable_difference(extrapolated(number), alpha, power)
        return found is not None and found <= difference

    last = extrapolated(_MOST_NEEDED).standard_error or 0.0
    if last * _errors_apart(math.inf, alpha, power) > difference:
        return None  # not even if the spread were known exactly
    below, number = start - 1, start
    while not resolves(number):
        if number >= _MOST_NEEDED:
            return None
        below, number = number, min(number + 1 + number // 4, _MOST_NEEDED)
    while number - below > 1:
        middle = (below + number) // 2
        below, number = (below, middle) if resolves(middle) else (middle, number)
    return number
