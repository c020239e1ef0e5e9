"""Mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_SEEDS_FOR_SPREAD = 3


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) over seeds; no deviation below three seeds."""

    mean: float
    deviation: float | None
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Summarise one figure over seeds.

    Raises:
        ValueError: If there is none.
    """
    if not values:
        raise ValueError("no values to summarise; expected one a seed")
    enough = len(values) >= FEWEST_SEEDS_FOR_SPREAD
    return Summary(statistics.fmean(values), statistics.stdev(values) if enough else None, len(values))
