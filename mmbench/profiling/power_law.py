"""How a figure grows with a quantity: the exponent of a power law, by least squares on logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PowerLaw:
    """y = scale · x^exponent, as far as that is true.

    Attributes:
        exponent: Slope of the straight line through all points of (log x, log y).
        scale: y at x = 1.
        r2: Share of the spread of log y that the line explains, 1 where y does not change at all. A slope
            near 0 has a low share without being wrong.
        last_exponent: Slope between the two largest x alone. Of a sum of terms it is nearer to the term that
            wins in the end; far from `exponent`, the figure follows no single power over the range.
        points: Number of points.
    """

    exponent: float
    scale: float
    r2: float
    last_exponent: float
    points: int


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """Fit the exponent of y over x.

    Args:
        x: At least two different values, each > 0, in any order.
        y: As many, each > 0.

    Returns:
        The fit; with two points it is exact and says nothing of how good the law is.

    Raises:
        ValueError: If there are too few points, or one has no logarithm.
    """
    if len(x) != len(y):
        raise ValueError(f"fit_power_law: {len(x)} values of x and {len(y)} of y; expected as many")
    if len(set(x)) < 2 or len(set(x)) < len(x):
        raise ValueError(f"fit_power_law: x is {list(x)}; expected at least two values, all different")
    if min(*x, *y) <= 0 or not all(map(math.isfinite, (*x, *y))):
        raise ValueError(f"fit_power_law: x {list(x)}, y {list(y)}; expected finite values > 0")
    points = sorted(zip(map(math.log, x), map(math.log, y), strict=True))
    mean_x = math.fsum(u for u, _ in points) / len(points)
    mean_y = math.fsum(v for _, v in points) / len(points)
    spread_x = math.fsum((u - mean_x) ** 2 for u, _ in points)
    spread_y = math.fsum((v - mean_y) ** 2 for _, v in points)
    exponent = math.fsum((u - mean_x) * (v - mean_y) for u, v in points) / spread_x
    left = math.fsum((v - mean_y - exponent * (u - mean_x)) ** 2 for u, v in points)
    (before_x, before_y), (last_x, last_y) = points[-2:]
    return PowerLaw(
        exponent=exponent,
        scale=math.exp(mean_y - exponent * mean_x),
        r2=1.0 - left / spread_y if spread_y > _ROUNDING * len(points) else 1.0,
        last_exponent=(last_y - before_y) / (last_x - before_x),
        points=len(points),
    )


_ROUNDING = 1e-24
"""Squared differences of logarithms below this are rounding: y is constant."""
