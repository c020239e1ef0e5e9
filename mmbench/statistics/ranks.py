"""Average ranks over blocks, with Friedman's test and Nemenyi's critical distance where they hold.

Source:
    Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006; the F form is Iman
    and Davenport's, Approximations of the critical region of the Friedman statistic, 1980.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as fisher
from scipy.stats import rankdata, studentized_range

FEWEST_METHODS = 3
FEWEST_BLOCKS = 11
"""The tests are approximations. N > 10 is Demšar's rule; his k > 5 is for the form with chi-square. That the
F form holds its level from three methods on is simulated in tests/mmbench/test_statistics_ranks.py."""


@dataclass(frozen=True)
class RankComparison:
    """How methods rank over blocks.

    Attributes:
        average_ranks: (k,) 1 is best; ties share their mean rank.
        num_blocks: N.
        chi_square: Friedman's statistic, corrected for ties; None where `reason` stands.
        p_value: That no method ranks apart, of Iman and Davenport's F form; None likewise.
        critical_distance: Nemenyi's: average ranks further apart than this differ; None likewise.
        reason: Why there is no test, or "".
    """

    average_ranks: NDArray[np.float64]
    num_blocks: int
    chi_square: float | None = None
    p_value: float | None = None
    critical_distance: float | None = None
    reason: str = ""


def compare_ranks(scores: NDArray[np.float64], alpha: float = 0.05) -> RankComparison:
    """Rank methods within blocks, and test the ranks where there are enough blocks and methods.

    Args:
        scores: (N, k) of k methods in N independent blocks, as tiles or data sets; higher is better. Seeds on
            the same tiles are no blocks of their own.
        alpha: Of the critical distance.

    Raises:
        ValueError: If there is no block or method, or a score is not finite.
    """
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(
            f"scores of shape {scores.shape}; expected finite ones, a row a block, a column a method"
        )
    num_blocks, num_methods = scores.shape
    ranks = rankdata(-scores, axis=1)
    average = ranks.mean(0)
    if num_methods < FEWEST_METHODS:
        return RankComparison(average, num_blocks, reason=_few(num_methods, "methods", FEWEST_METHODS))
    if num_blocks < FEWEST_BLOCKS:
        return RankComparison(average, num_blocks, reason=_few(num_blocks, "blocks", FEWEST_BLOCKS))
    chi_square = _chi_square(ranks)
    if chi_square is None:
        return RankComparison(average, num_blocks, reason="all methods tie in every block")
    return RankComparison(
        average,
        num_blocks,
        chi_square,
        _p_value(chi_square, num_blocks, num_methods),
        nemenyi_distance(num_methods, num_blocks, alpha),
    )


def nemenyi_distance(num_methods: int, num_blocks: int, alpha: float = 0.05) -> float:
    """Return how far two average ranks must lie apart, over all pairs at once.

    Args:
        num_methods: k, two or more.
        num_blocks: N.
        alpha: Chance of any false difference.
    """
    quantile = float(studentized_range.ppf(1 - alpha, num_methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(num_methods * (num_methods + 1) / (6 * num_blocks))


def _few(number: int, what: str, least: int) -> str:
    """Say what there is too little of."""
    return f"{number} {what}; the test needs {least} or more"


def _chi_square(ranks: NDArray[np.float64]) -> float | None:
    """Return Friedman's statistic of (N, k) ranks; None if no block ranks anything.

    With ties the ranks vary less; dividing by how much they do vary is the usual correction for ties.
    """
    num_blocks, num_methods = ranks.shape
    middle = (num_methods + 1) / 2
    between = num_blocks * float(((ranks.mean(0) - middle) ** 2).sum())
    within = float(((ranks - middle) ** 2).sum()) / (num_blocks * (num_methods - 1))
    return between / within if within else None


def _p_value(chi_square: float, num_blocks: int, num_methods: int) -> float:
    """Return the p-value of the F form, which holds for fewer blocks than that of chi-square."""
    left = num_blocks * (num_methods - 1) - chi_square
    if left <= 0:  # every block has the same order
        return 0.0
    statistic = (num_blocks - 1) * chi_square / left
    return float(fisher.sf(statistic, num_methods - 1, (num_methods - 1) * (num_blocks - 1)))
