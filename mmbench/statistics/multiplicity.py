"""Many comparisons at once: Holm's correction, and groups of methods that are not told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values: rejecting those up to alpha errs anywhere with at most alpha.

    Args:
        p_values: (N,) in [0, 1], of one family of hypotheses.

    Returns:
        (N,) in the same order, in [0, 1].

    Raises:
        ValueError: If one is not in [0, 1].

    Source:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values {values}; expected numbers in [0, 1]")
    order = np.argsort(values, kind="stable")
    factors = len(values) - np.arange(len(values))
    # A hypothesis is rejected only if all with smaller p-values are.
    steps = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    adjusted = np.empty_like(values)
    adjusted[order] = steps
    return adjusted


@dataclass(frozen=True)
class TieGroups:
    """Which of some methods are not told apart from the best.

    Attributes:
        top: The best and all that are not separated from it, by their numbers, best first.
        second: Of the others the best, and all others that are not separated from that one.
    """

    top: tuple[int, ...]
    second: tuple[int, ...]


def tie_groups(values: Sequence[float], separated: NDArray[np.bool_]) -> TieGroups:
    """Group methods by what they are separated from.

    A group is what is tied with its best; two of its members may be separated from each other, and one that
    its seeds leave uncertain may stand in it below another that is outside.

    Args:
        values: (N,) scores, higher is better.
        separated: (N, N) whether two methods differ, after a correction for all pairs.
    """
    order = sorted(range(len(values)), key=lambda number: -values[number])
    top = _tied_with_first(order, separated)
    return TieGroups(top, _tied_with_first([n for n in order if n not in top], separated))


def _tied_with_first(order: Sequence[int], separated: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return the first and those that are not separated from it."""
    return tuple(number for number in order if number == order[0] or not separated[order[0], number])
