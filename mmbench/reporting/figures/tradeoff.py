"""Accuracy against cost: a point is a method, a line joins those that no other beats in both."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mmbench.profiling.figure_style import COLOURS, MUTED, SMALL, Heading
from mmbench.reporting.cost_views import pareto_optimal
from mmbench.reporting.figures.canvas import (
    COLUMN_INCHES,
    axes_at,
    blank_figure,
    plain_axes,
    shorten,
    text_inches,
)

_HEIGHT, _FOOT, _LEFT, _EDGE = 2.3, 0.36, 0.38, 0.08
"""Inches: the plot, below it, left of it, right of it."""
_LINE, _LONGEST_NAME, _RADIUS, _HAIR = 0.095, 1.2, 0.035, 0.012
"""Inches: height of a name, its width at most, half the width of a point and of a line."""
_Box = tuple[float, float, float, float]
"""Left, bottom, right, top; inches from the lower left corner of the plot."""


@dataclass(frozen=True)
class CostPoint:
    """One method: what it costs, in the unit of the axis, above 0, and what it scores, with its interval."""

    label: str
    cost: float
    score: float
    low: float | None = None
    high: float | None = None


def draw_tradeoff(
    points: Sequence[CostPoint],
    *,
    title: str,
    below: str,
    cost_axis: str = "GFLOP of a window (log scale)",
    score_axis: str = "mean mIoU (%)",
) -> Figure:
    """Draw scores over costs, at column width; what is optimal in both is filled and joined.

    Args:
        points: In any order.
        title: One line.
        below: What cost and interval are.
        cost_axis: What the cost is, and its unit.
        score_axis: What is scored, and its unit.

    Raises:
        ValueError: If there is no point, or one costs nothing.
    """
    if not points or any(point.cost <= 0 for point in points):
        free = [point.label for point in points if point.cost <= 0]
        raise ValueError(f"draw_tradeoff: {len(points)} points, at no cost {free}; expected costs above 0")
    heading = Heading(
        title, f"{below}; filled and joined: no other method scores more at no more cost", COLUMN_INCHES
    )
    top, width = heading.height + 0.08, COLUMN_INCHES - _LEFT - _EDGE
    with blank_figure(COLUMN_INCHES, top + _HEIGHT + _FOOT, heading) as figure:
        axes = axes_at(figure, _LEFT, top, width, _HEIGHT)
        plain_axes(axes, grid="both")
        _set_axes(axes, points)
        axes.set_xlabel(cost_axis, fontsize=SMALL, labelpad=2)
        axes.set_ylabel(score_axis, fontsize=SMALL, labelpad=2)
        _draw_points(axes, points)
        _name_points(axes, points, width)
    return figure


def _set_axes(axes: Axes, points: Sequence[CostPoint]) -> None:
    """Choose limits with room for names beside the outermost points, and plain numbers for ticks."""
    costs = np.log10([point.cost for point in points])
    room = 0.16 * max(float(np.ptp(costs)), 0.5)
    axes.set_xscale("log")
    axes.set_xlim(10 ** (costs.min() - room), 10 ** (costs.max() + room))
    ends = [end for p in points for end in (p.score, p.low, p.high) if end is not None]
    margin = 0.08 * (max(ends) - min(ends)) or 1.0
    axes.set_ylim(min(ends) - margin, max(ends) + margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _draw_points(axes: Axes, points: Sequence[CostPoint]) -> None:
    """Draw intervals, the front, and the points on it filled, the others hollow."""
    optimal = pareto_optimal([(point.cost, point.score) for point in points])
    front = _front(points)
    # Between two points of the front the cheaper one is the best that is to be had.
    axes.step(*zip(*front, strict=True), where="post", color=COLOURS[0], linewidth=0.9, zorder=2)
    for point, on_front in zip(points, optimal, strict=True):
        if point.low is not None and point.high is not None:
            axes.plot([point.cost] * 2, [point.low, point.high], color=MUTED, linewidth=0.6, zorder=1.5)
        style: dict[str, Any] = {"color": COLOURS[0] if on_front else "white"}
        edge = "white" if on_front else MUTED
        axes.plot(
            [point.cost],
            [point.score],
            marker="o",
            markersize=5.0,
            markeredgecolor=edge,
            markeredgewidth=0.6 if on_front else 0.9,
            zorder=3,
            **style,
        )


def _front(points: Sequence[CostPoint]) -> list[tuple[float, float]]:
    """Return cost and score of the points that no other beats, the cheapest first."""
    pairs = [(point.cost, point.score) for point in points]
    return sorted({p for p, on_front in zip(pairs, pareto_optimal(pairs), strict=True) if on_front})


def _name_points(axes: Axes, points: Sequence[CostPoint], width: float) -> None:
    """Write each name where it covers least: beside its point if it can, else further off with a leader."""
    left, right = np.log10(axes.get_xlim())
    low, high = axes.get_ylim()

    def inches(cost: float, score: float) -> tuple[float, float]:
        return (np.log10(cost) - left) / (right - left) * width, (score - low) / (high - low) * _HEIGHT

    centres = [inches(point.cost, point.score) for point in points]
    taken = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in centres]
    for point, (x, _) in zip(points, centres, strict=True):
        if point.low is not None and point.high is not None:
            ends = (inches(point.cost, end)[1] for end in (point.low, point.high))
            taken.append((x - _HAIR, next(ends), x + _HAIR, next(ends)))
    corners = [inches(*corner) for corner in _front(points)]
    for (x, y), (next_x, next_y) in itertools.pairwise(corners):
        taken += [(x, y - _HAIR, next_x, y + _HAIR), (next_x - _HAIR, y, next_x + _HAIR, next_y)]
    for name, centre in sorted(_names(points, centres).items(), key=lambda item: -item[1][1]):
        size = (text_inches(name), _LINE)
        box = min(_candidates(centre, size), key=lambda box: _covered(box, taken, width))
        taken.append(box)
        _write_name(axes, name, box, centre, width)


def _names(
    points: Sequence[CostPoint], centres: Sequence[tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Return as much of each name as there is room for, and its place; points that coincide share one."""
    at: dict[tuple[int, int], list[int]] = {}
    for number, centre in enumerate(centres):
        cell = (round(centre[0] / _RADIUS), round(centre[1] / _RADIUS))
        at.setdefault(cell, []).append(number)
    return {
        ", ".join(shorten(points[number].label, _LONGEST_NAME) for number in numbers): centres[numbers[0]]
        for numbers in at.values()
    }


def _candidates(centre: tuple[float, float], size: tuple[float, float]) -> list[_Box]:
    """Return places for a name around a point, the preferred ones first."""
    (x, y), (width, height) = centre, size
    boxes = []
    for distance in (0.05, 0.14, 0.24, 0.36):
        for side, rise in ((1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1)):
            left = x + side * distance + (-width if side < 0 else -width / 2 if side == 0 else 0)
            bottom = y + rise * distance * 0.8 - height / 2
            boxes.append((left, bottom, left + width, bottom + height))
    return boxes


def _covered(box: _Box, taken: Sequence[_Box], width: float) -> float:
    """Return the area that a name would cover of others, or have outside the plot; square inches."""
    inside = max(0.0, min(box[2], width) - max(box[0], 0.0)) * max(
        0.0, min(box[3], _HEIGHT) - max(box[1], 0.0)
    )
    outside = (box[2] - box[0]) * (box[3] - box[1]) - inside
    overlaps = (
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in taken
    )
    return 10 * outside + sum(overlaps)


def _write_name(axes: Axes, name: str, box: _Box, centre: tuple[float, float], width: float) -> None:
    """Write a name in its box, and a leader where the box is not next to its point."""
    across, up = box[0] / width, (box[1] + box[3]) / 2 / _HEIGHT
    nearest = (min(max(centre[0], box[0]), box[2]), min(max(centre[1], box[1]), box[3]))
    if np.hypot(nearest[0] - centre[0], nearest[1] - centre[1]) > 0.08:
        xs, ys = [centre[0] / width, nearest[0] / width], [centre[1] / _HEIGHT, nearest[1] / _HEIGHT]
        axes.plot(xs, ys, transform=axes.transAxes, color=MUTED, linewidth=0.4, zorder=2)
    text = axes.text(
        across, up, name, transform=axes.transAxes, fontsize=SMALL, va="center_baseline", zorder=5
    )
    text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])  # readable across an interval
