"""What is scored of summed matrices: a figure for every scenario, or for every class.

Axes: C scenarios, K classes, X figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mmbench.metrics import ClassMetric, Counts, Metric, class_scores, pooled_score

Scorer = Callable[[Counts], NDArray[np.float64]]
"""From counts (..., C, 3, K), see `metrics.marginals`, to figures (..., X); NaN where one is undefined."""


def column_scorer(metric: Metric, scored_classes: Sequence[int]) -> Scorer:
    """Return what scores the columns of a table: each scenario, then the mean and the worst of them.

    Args:
        metric: One of `metrics.METRICS`.
        scored_classes: The classes in the means.

    Returns:
        From (..., C, 3, K) to (..., C + 2).
    """

    def score(counts: Counts) -> NDArray[np.float64]:
        scenarios = pooled_score(counts, metric, scored_classes)
        return np.concatenate([scenarios, _mean(scenarios), _worst(scenarios)], axis=-1)

    return score


def class_scorer(metric: ClassMetric, column: int, num_scenarios: int) -> Scorer:
    """Return what scores every class in one column of a table.

    Args:
        metric: "iou" or "f1".
        column: A scenario's number, or C for the mean of each class over the scenarios, C + 1 for its worst.
        num_scenarios: C.

    Returns:
        From (..., C, 3, K) to (..., K).
    """

    def score(counts: Counts) -> NDArray[np.float64]:
        if column < num_scenarios:
            return class_scores(counts[..., column, :, :], metric)
        by_class = np.moveaxis(class_scores(counts, metric), -2, -1)
        return np.squeeze((_mean if column == num_scenarios else _worst)(by_class), axis=-1)

    return score


def _mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the defined scores, (..., 1); NaN where there is none."""
    defined = np.isfinite(scores)
    number = defined.sum(-1, keepdims=True)
    total = np.where(defined, scores, 0.0).sum(-1, keepdims=True)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _worst(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least of the defined scores, (..., 1); NaN where there is none."""
    least = np.where(np.isfinite(scores), scores, np.inf).min(-1, keepdims=True)
    return np.where(np.isfinite(least), least, np.nan)
