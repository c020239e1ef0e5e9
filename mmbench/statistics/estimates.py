"""Figures with an interval and a p-value, from what resampling made of them.

An interval is the estimate ± t times the standard deviation of the draws, with Satterthwaite's degrees of
freedom of seeds and tiles. Percentiles of the draws would be too narrow for the few seeds and tiles that
there are (Hesterberg, What teachers should know about the bootstrap, 2015;
tests/mmbench/test_statistics_simulation.py counts it). The p-value belongs to the same t: it is below 0.05
where the 95 % interval excludes zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from mmbench.statistics.bootstrap import Distribution

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """One figure, or the difference of two, and how sure it is.

    Attributes:
        value: In the unit of the score.
        standard_error: Of drawn seeds and tiles; None where neither can be drawn.
        tile_error: The part of tiles.
        seed_error: The part of seeds.
        num_tiles: That could be drawn.
        num_seeds: That could be drawn.
    """

    value: float
    standard_error: float | None
    tile_error: float
    seed_error: float
    num_tiles: int
    num_seeds: int

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error, by Satterthwaite; infinite where it is zero."""
        return freedom(self.tile_error**2, self.seed_error**2, self.num_tiles, self.num_seeds)

    @property
    def basis(self) -> str:
        """What was drawn, in words."""
        tiles, seeds = self.num_tiles > 1, self.num_seeds > 1
        if tiles and seeds:
            return f"{self.num_seeds} seeds and {self.num_tiles} tiles"
        if tiles:
            return f"{self.num_tiles} tiles only: with one seed, how trainings differ is not in it"
        return (
            f"{self.num_seeds} seeds only: with one tile, how tiles differ is not in it"
            if seeds
            else ("nothing: one seed and one tile have no spread")
        )

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return (low, high), or None where there is no spread to tell it from.

        Args:
            level: Share of intervals that hold the truth.
        """
        if self.standard_error is None:
            return None
        half = float(student.ppf((1 + level) / 2, self.freedom)) * self.standard_error
        return self.value - half, self.value + half

    @property
    def p_value(self) -> float | None:
        """Two-sided, of the figure being zero; None where there is no spread to tell it from."""
        if self.standard_error is None:
            return None
        if self.value == 0:
            return 1.0
        if self.standard_error == 0:
            return 0.0
        return 2 * float(student.sf(abs(self.value) / self.standard_error, self.freedom))


def freedom(tile_variance: float, seed_variance: float, num_tiles: int, num_seeds: int) -> float:
    """Return Satterthwaite's degrees of freedom of a sum of two variances; infinite if both are zero.

    Args:
        tile_variance: Of the mean, from `num_tiles` tiles.
        seed_variance: Of the mean, from `num_seeds` seeds.
        num_tiles: Above one where its variance is not zero.
        num_seeds: Likewise.
    """
    parts = [(tile_variance, num_tiles), (seed_variance, num_seeds)]
    # Shares of the sum, as squares of tiny variances would vanish.
    total = tile_variance + seed_variance
    if total == 0:
        return math.inf
    return 1 / sum((variance / total) ** 2 / (number - 1) for variance, number in parts if variance > 0)


def estimates(distribution: Distribution) -> list[Estimate | None]:
    """Return an estimate for every figure of a distribution, None for one that is undefined."""
    num_tiles, num_seeds = distribution.num_tiles, distribution.num_seeds
    columns = zip(
        distribution.estimate,
        _deviations(distribution.draws),
        _deviations(distribution.tile_draws) * (num_tiles > 1),
        _deviations(distribution.seed_draws) * (num_seeds > 1),
        strict=True,
    )
    drawn = num_tiles > 1 or num_seeds > 1
    return [
        Estimate(float(value), float(both) if drawn else None, float(tile), float(seed), num_tiles, num_seeds)
        if np.isfinite(value)
        else None
        for value, both, tile, seed in columns
    ]


def _deviations(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation of each column, (X,), over the draws in which it is defined."""
    defined = np.isfinite(draws)
    number = np.maximum(defined.sum(0), 1)
    mean = np.where(defined, draws, 0.0).sum(0) / number
    squares = np.where(defined, draws - mean, 0.0) ** 2
    return np.asarray(np.sqrt(squares.sum(0) / number))
