"""Estimates, p-values and shares in words for tables and in numbers for JSON; scores become points of 100."""

from __future__ import annotations

from mmbench.reporting.table_model import MISSING
from mmbench.statistics import LEVEL, Estimate

POINTS = 100
"""In which tables print scores."""
ALPHA = round(1 - LEVEL, 6)
"""Below which a p-value separates two methods: then the interval excludes zero."""
_SMALL = 0.001


def in_points(value: float | None, decimals: int = 1, *, sign: bool = False) -> str:
    """Return a score in points, with its sign where it is a difference."""
    if value is None:
        return MISSING
    words = f"{value * POINTS:{'+' if sign else ''}.{decimals}f}"
    return words.lstrip("+-") if float(words) == 0 else words


def interval_words(estimate: Estimate | None) -> str:
    """Return the interval of a difference in points."""
    interval = None if estimate is None else estimate.interval()
    if interval is None:
        return MISSING
    low, high = (in_points(end, 2, sign=True) for end in interval)
    return f"{low} to {high}"


def p_words(p_value: float | None) -> str:
    """Return a p-value with three decimals."""
    if p_value is None:
        return MISSING
    return f"< {_SMALL}" if p_value < _SMALL else f"{p_value:.3f}"


def estimate_json(estimate: Estimate | None) -> dict[str, float | None] | None:
    """Return an estimate of a difference as numbers, in points."""
    if estimate is None:
        return None
    low, high = estimate.interval() or (None, None)
    return {
        "value": points(estimate.value),
        "low": points(low),
        "high": points(high),
        "level": LEVEL,
        "p_value": estimate.p_value,
        "standard_error": points(estimate.standard_error),
    }


def points(value: float | None) -> float | None:
    """Return a score in points, None for None."""
    return None if value is None else value * POINTS
