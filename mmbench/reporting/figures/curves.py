"""Score over a rate or a severity: a line is a method, its name at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmbench.profiling.figure_style import MUTED, SMALL, Heading
from mmbench.reporting.figures.canvas import (
    COLUMN_INCHES,
    axes_at,
    blank_figure,
    method_mark,
    names_inches,
    plain_axes,
    shorten,
    spread_apart,
)
from mmbench.reporting.robustness import expected_score

_HEIGHT, _FOOT, _LEFT, _NAME_STEP, _LEADER = 2.2, 0.36, 0.38, 0.105, 0.22
"""Inches: height of the plot at least, below it, left of it, between names, between lines and names."""
_FURTHEST_RATE, _RATES = 0.9, 91
"""Where the curve of the expected score ends, and of how many points it is made."""
_BAND_OPACITY = 0.12


@dataclass(frozen=True)
class Curve:
    """One method.

    Attributes:
        label: Its name.
        values: Score at each place of the axis.
        low: Lower bound at each, where it is known.
        high: Upper bound.
    """

    label: str
    values: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


def expected_rates() -> tuple[float, ...]:
    """Return the rates at which the curve of the expected score is drawn."""
    return tuple(_FURTHEST_RATE * step / (_RATES - 1) for step in range(_RATES))


def expected_curve(label: str, scores: dict[str, float], modalities: Sequence[str]) -> Curve | None:
    """Return the expected score over the rate at which each modality is missing, independently.

    Args:
        label: The method's.
        scores: Scenario -> score, of every non-empty subset of the modalities.
        modalities: Of the data set.

    Returns:
        Its value at each of `expected_rates`, None where a scenario has no score.
    """
    values = [expected_score(scores, modalities, rate) for rate in expected_rates()]
    known = tuple(value for value in values if value is not None)
    return Curve(label, known) if len(known) == len(values) else None


def draw_curves(
    curves: Sequence[Curve],
    places: Sequence[float],
    *,
    title: str,
    below: str,
    across: str = "rate at which a modality is missing",
    axis: str = "expected mIoU (%)",
    marked: Sequence[float] = (),
) -> Figure:
    """Draw one line a method, at column width.

    Args:
        curves: In the order of the report, from which colours, markers and lines follow.
        places: On the axis, ascending.
        title: One line.
        below: How the scores were taken.
        across: What the axis is.
        axis: What is scored, and its unit.
        marked: The places that get a marker, as those of a table; none of them marks all.

    Raises:
        ValueError: If there is no curve, or one has not a value for every place.
    """
    wrong = [curve.label for curve in curves if len(curve.values) != len(places)]
    if not curves or wrong:
        words = f"{wrong[0]} has not {len(places)} values" if wrong else "no curve"
        raise ValueError(f"draw_curves: {words}; expected one value for every place")
    heading = Heading(title, below, COLUMN_INCHES)
    height = max(_HEIGHT, len(curves) * _NAME_STEP + 0.1)
    top = heading.height + 0.08
    width = COLUMN_INCHES - _LEFT - _LEADER - names_inches([curve.label for curve in curves])
    indices = [i for i, place in enumerate(places) if not marked or _is_near(place, marked, places)]
    with blank_figure(COLUMN_INCHES, top + height + _FOOT, heading) as figure:
        axes = axes_at(figure, _LEFT, top, width, height)
        plain_axes(axes, grid="both")
        for index, curve in enumerate(curves):
            _draw_curve(axes, curve, places, index, indices)
        axes.set_xlim(places[0], places[-1])
        axes.margins(y=0.04)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.set_xlabel(across, fontsize=SMALL, labelpad=2)
        axes.set_ylabel(axis, fontsize=SMALL, labelpad=2)
        _name_ends(axes, curves, width, height)
    return figure


def _is_near(place: float, marked: Sequence[float], places: Sequence[float]) -> bool:
    """Whether a place is the nearest one to a marked value."""
    return any(min(places, key=lambda p: abs(p - value)) == place for value in marked)


def _draw_curve(axes: Axes, curve: Curve, places: Sequence[float], index: int, marked: Sequence[int]) -> None:
    """Draw one line with its markers, and its band where there is one."""
    mark = method_mark(index)
    if curve.low is not None and curve.high is not None:
        axes.fill_between(
            places, curve.low, curve.high, color=mark.colour, alpha=_BAND_OPACITY, linewidth=0, zorder=1
        )
    axes.plot(
        places,
        curve.values,
        color=mark.colour,
        linestyle=mark.line,
        linewidth=1.0,
        marker=mark.marker,
        markersize=3.4,
        markeredgecolor="white",
        markeredgewidth=0.4,
        markevery=list(marked),
        zorder=3,
        clip_on=False,
    )


def _name_ends(axes: Axes, curves: Sequence[Curve], width: float, height: float) -> None:
    """Write each name right of its line's end, with a leader where it had to make room for others."""
    low, high = axes.get_ylim()
    ends = [(curve.values[-1] - low) / (high - low) * height for curve in curves]
    places = spread_apart(ends, _NAME_STEP, _NAME_STEP / 2, height)
    for index, (curve, end, place) in enumerate(zip(curves, ends, places, strict=True)):
        mark = method_mark(index)
        axes.plot(
            [1 + 0.02 / width, 1 + (_LEADER - 0.1) / width],
            [end / height, place / height],
            transform=axes.transAxes,
            clip_on=False,
            color=MUTED,
            linewidth=0.4,
        )
        right = 1 + (_LEADER - 0.04) / width
        style: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        axes.plot([right], [place / height], marker=mark.marker, markersize=3.4, color=mark.colour, **style)
        axes.text(
            right + 0.06 / width,
            place / height,
            shorten(curve.label, 1.3),
            fontsize=SMALL,
            va="center_baseline",
            **style,
        )
