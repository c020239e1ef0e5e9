"""How sure an order of methods is: the ranks that resampling gives each of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import rankdata

from mmbench.profiling.figure_style import COLOURS, SMALL, Heading
from mmbench.reporting.figures.canvas import (
    COLUMN_INCHES,
    axes_at,
    blank_figure,
    name_rows,
    names_inches,
    plain_axes,
)

_ROW, _FOOT, _EDGE, _BAR_STEP = 0.155, 0.36, 0.1, 0.09
"""Inches: a row, below the plot, right of it, between the bars of groups."""
_INTERVAL = (2.5, 97.5)
"""Percentiles of the ranks."""


def bootstrap_ranks(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank methods within each draw.

    Args:
        draws: (R, N) scores of N methods in R draws that are paired; higher is better.

    Returns:
        (R, N), 1 is best; equal scores share their mean rank.
    """
    return np.asarray(rankdata(-draws, axis=1), dtype=np.float64)


def draw_ranks(
    labels: Sequence[str],
    ranks: NDArray[np.float64],
    *,
    title: str,
    below: str,
    groups: Sequence[Sequence[str]] = (),
) -> Figure:
    """Draw each method's ranks over the draws: how often it has each, their mean and 95 % interval.

    Args:
        labels: N methods.
        ranks: (R, N), see `bootstrap_ranks`.
        title: One line.
        below: What was drawn, and what a bar at the right means if there are groups.
        groups: Methods that are not told apart, each group one bar; only where a test says so.

    Raises:
        ValueError: If there is no method, or another number of them than ranks have columns.
    """
    if not labels or ranks.ndim != 2 or ranks.shape[1] != len(labels) or not len(ranks):
        raise ValueError(f"draw_ranks: {len(labels)} labels, ranks {ranks.shape}; expected (draws, labels)")
    order = [int(i) for i in np.argsort(ranks.mean(0), kind="stable")]
    ordered = [labels[i] for i in order]
    heading = Heading(title, below, COLUMN_INCHES)
    names, top = names_inches(ordered), heading.height + 0.1
    bars = len(groups) * _BAR_STEP + (0.06 if groups else 0.0)
    width, height = COLUMN_INCHES - names - _EDGE - bars, len(labels) * _ROW
    with blank_figure(COLUMN_INCHES, top + height + _FOOT, heading) as figure:
        axes = axes_at(figure, names, top, width, height)
        plain_axes(axes)
        axes.spines["left"].set_visible(False)
        name_rows(axes, ordered)
        for row, index in enumerate(order):
            _draw_row(axes, ranks[:, index], row)
        axes.set_xlim(0.5, len(labels) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlabel("rank (1 is best)", fontsize=SMALL, labelpad=2)
        for number, group in enumerate(groups):
            _draw_group(axes, [ordered.index(label) for label in group], number, width)
    return figure


def _draw_row(axes: Axes, ranks: NDArray[np.float64], row: int) -> None:
    """Draw how often a method has each rank as a pale bar, then the interval and the mean."""
    halves = np.concatenate([np.floor(ranks), np.ceil(ranks)])  # a shared rank counts half for either
    values, counts = np.unique(halves, return_counts=True)
    heights = counts / len(halves) * 0.84
    axes.bar(values, -heights, width=0.86, bottom=row + 0.42, color="#b9d6ea", linewidth=0, zorder=1.5)
    low, high = np.percentile(halves, _INTERVAL, method="inverted_cdf")
    axes.plot([low, high], [row, row], color=COLOURS[0], linewidth=1.1, solid_capstyle="butt", zorder=3)
    for end in (low, high):
        axes.plot([end, end], [row - 0.18, row + 0.18], color=COLOURS[0], linewidth=1.1, zorder=3)
    axes.plot(
        [ranks.mean()],
        [row],
        marker="o",
        markersize=4.0,
        color=COLOURS[0],
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=4,
    )


def _draw_group(axes: Axes, rows: Sequence[int], number: int, width: float) -> None:
    """Draw a bar along the rows of one group, right of the plot; thin past rows that are not in it."""
    across = 1 + (0.06 + number * _BAR_STEP) / width
    style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "color": "black", "clip_on": False}
    axes.plot([across, across], [min(rows), max(rows)], linewidth=0.5, **style)
    for first in (row for row in rows if row - 1 not in rows):
        last = next(row for row in itertools.count(first) if row + 1 not in rows)
        ends = [first - 0.3, last + 0.3]
        axes.plot([across, across], ends, linewidth=2.2, solid_capstyle="butt", **style)
