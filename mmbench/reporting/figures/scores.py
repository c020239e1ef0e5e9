"""Scores with intervals by scenario: a row is a method, a mark a scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmbench.profiling.figure_style import LINE, MUTED, SMALL, Heading
from mmbench.reporting.figures.canvas import (
    COLUMN_INCHES,
    PAGE_INCHES,
    SCENARIO_MARKS,
    Mark,
    axes_at,
    blank_figure,
    name_rows,
    names_inches,
    plain_axes,
    text_inches,
)

_MARK, _BETWEEN_ROWS, _FOOT, _GAP, _EDGE = 0.075, 0.08, 0.36, 0.14, 0.08
"""Inches: height of a mark, between rows, below the plot, between panels, right of the last."""


@dataclass(frozen=True)
class Interval:
    """A score and how sure it is, in the unit of the axis; without bounds where that is not known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ScoreRow:
    """One method: scenario -> its score; one that has none is left out."""

    label: str
    scores: Mapping[str, Interval]


def draw_scores(
    rows: Sequence[ScoreRow], scenarios: Sequence[str], *, title: str, below: str, axis: str = "mIoU (%)"
) -> Figure:
    """Draw a dot and an interval for every method and scenario.

    Args:
        rows: From top to bottom.
        scenarios: Up to four stand in one panel, at column width; more in as many panels as they need.
        title: One line.
        below: What the intervals are, and how the scores were taken.
        axis: What is scored, and its unit.

    Raises:
        ValueError: If there is no row or no scenario.
    """
    if not rows or not scenarios:
        raise ValueError(f"draw_scores: {len(rows)} rows, {len(scenarios)} scenarios; expected one or more")
    count = math.ceil(len(scenarios) / len(SCENARIO_MARKS))
    size = math.ceil(len(scenarios) / count)
    panels = [scenarios[start : start + size] for start in range(0, len(scenarios), size)]
    width = COLUMN_INCHES if count == 1 else PAGE_INCHES
    heading = Heading(title, below, width)
    names = names_inches([row.label for row in rows])
    panel_width = (width - names - _EDGE - (count - 1) * _GAP) / count
    keys = [_key_places(panel, panel_width) for panel in panels]
    lines = max(line for key in keys for line, _ in key) + 1
    plot_height = len(rows) * (size * _MARK + _BETWEEN_ROWS)
    top = heading.height + 0.06 + lines * LINE + 0.05
    bounds = _bounds(rows, scenarios)
    with blank_figure(width, top + plot_height + _FOOT, heading) as figure:
        for index, panel in enumerate(panels):
            left = names + index * (panel_width + _GAP)
            axes = axes_at(figure, left, top, panel_width, plot_height)
            name_rows(axes, [row.label if index == 0 else "" for row in rows])
            _draw_panel(axes, rows, panel)
            axes.set_xlim(*bounds)
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            axes.set_xlabel(axis, fontsize=SMALL, labelpad=2)
            for name, mark, (line, start) in zip(panel, SCENARIO_MARKS, keys[index], strict=False):
                height = ((lines - 1 - line) * LINE + 0.08) / plot_height
                _write_key(axes, name, mark, (start / panel_width, 1 + height), panel_width)
    return figure


def _bounds(rows: Sequence[ScoreRow], scenarios: Sequence[str]) -> tuple[float, float]:
    """Return the ends of the axis: a little beyond the outermost mark or interval."""
    found = [row.scores[name] for row in rows for name in scenarios if name in row.scores]
    ends = [end for i in found for end in (i.value, i.low, i.high) if end is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    beyond = 0.04 * (high - low) or 1.0
    return low - beyond, high + beyond


def _draw_panel(axes: Axes, rows: Sequence[ScoreRow], scenarios: Sequence[str]) -> None:
    """Draw the marks of some scenarios, in each row one below the other."""
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
    share = _MARK / (len(scenarios) * _MARK + _BETWEEN_ROWS)
    for number, (name, mark) in enumerate(zip(scenarios, SCENARIO_MARKS, strict=False)):
        for index, row in enumerate(rows):
            if name not in row.scores:
                continue
            place = index + (number - (len(scenarios) - 1) / 2) * share
            _draw_interval(axes, row.scores[name], place, mark)


def _draw_interval(axes: Axes, interval: Interval, place: float, mark: Mark) -> None:
    """Draw one mark, its interval behind it."""
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [place, place], color=mark.colour, linewidth=1.0, zorder=2)
    axes.plot(
        [interval.value],
        [place],
        marker=mark.marker,
        markersize=3.6,
        color=mark.colour,
        markeredgecolor="white",
        markeredgewidth=0.4,
        linestyle="none",
        zorder=3,
    )


def _key_places(scenarios: Sequence[str], width: float) -> list[tuple[int, float]]:
    """Return the line, from 0, and the place in it, inches, of each scenario in the key of a panel."""
    places = []
    line, used = 0, 0.0
    for name in scenarios:
        needed = text_inches(name) + 0.24
        if used and used + needed > width:
            line, used = line + 1, 0.0
        places.append((line, used))
        used += needed
    return places


def _write_key(axes: Axes, name: str, mark: Mark, place: tuple[float, float], width: float) -> None:
    """Write a scenario behind its mark, at a place in the coordinates of the axes, `width` inches wide."""
    across, up = place
    style: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    marker: dict[str, Any] = {"marker": mark.marker, "markersize": 3.6, "color": mark.colour}
    axes.plot([across + 0.04 / width], [up], **marker, **style)
    axes.text(across + 0.11 / width, up, name, fontsize=SMALL, va="center_baseline", color=MUTED, **style)
