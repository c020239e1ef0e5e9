"""What the figures of a report share: widths, places in inches, marks that do without colour, room for names.

Axes are placed in inches, so that text keeps its size whatever there is to draw.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from mmbench.profiling.figure_style import COLOURS, MUTED, SMALL, STYLE, Heading

COLUMN_INCHES, PAGE_INCHES = 3.5, 7.16
"""Of a paper of two columns."""
_MOST_NAME_INCHES, _BESIDE_NAME_INCHES = 1.3, 0.1
"""Room for the names of methods beside a plot."""
GRID = "#e6e6e6"
SHADE = "#f4f4f4"
"""Of every second row."""
_POINTS = 72
"""An inch."""


@dataclass(frozen=True)
class Mark:
    """How one series is drawn: colour, marker and line differ, so that any one of them is enough.

    Attributes:
        colour: Of marker and line.
        marker: Of matplotlib.
        line: Line style of matplotlib.
    """

    colour: str
    marker: str
    line: Any = "-"


SCENARIO_MARKS = tuple(Mark(c, m) for c, m in zip(COLOURS, ("o", "s", "^", "D"), strict=True))
"""As many scenarios as one panel can tell apart."""
_METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_METHOD_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_METHOD_LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))


def method_mark(index: int) -> Mark:
    """Return the mark of a method by its place in the order of the report; 44 are all different."""
    return Mark(
        _METHOD_COLOURS[index % len(_METHOD_COLOURS)],
        _METHOD_MARKERS[index % len(_METHOD_MARKERS)],
        _METHOD_LINES[index % len(_METHOD_LINES)],
    )


@contextmanager
def blank_figure(width: float, height: float, heading: Heading) -> Iterator[Figure]:
    """Give a figure to draw in, in the style of all figures; the heading is written at its end.

    Args:
        width: Inches.
        height: Inches, the heading's among them.
        heading: At the top.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield figure
        heading.write(figure)


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes.

    Args:
        figure: To add them to.
        left: From the figure's left, inches.
        top: From the figure's top down to the upper edge, inches.
        width: Inches.
        height: Inches.
    """
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    box = (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    return figure.add_axes(box)


def write_at(figure: Figure, left: float, top: float, words: str, **style: Any) -> None:
    """Write text, its upper left corner (or what the style says) at a place in inches."""
    width, height = figure.get_size_inches()
    whole: dict[str, Any] = {"fontsize": SMALL, "va": "top"} | style
    figure.text(left / width, 1 - top / height, words, **whole)


@functools.lru_cache(maxsize=4096)
def text_inches(words: str, weight: str = "normal") -> float:
    """Return how wide a line of small text is, inches.

    Args:
        words: Without a line break.
        weight: "normal" or "bold".
    """
    font = FontProperties(size=SMALL, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(words, font, ismath=False)
    return float(width) / _POINTS


def shorten(words: str, inches: float, weight: str = "normal") -> str:
    """Return as much of small text as fits, an ellipsis behind it."""
    if text_inches(words, weight) <= inches:
        return words
    kept = words
    while kept and text_inches(f"{kept}…", weight) > inches:
        kept = kept[:-1]
    return f"{kept}…"


def names_inches(names: Sequence[str]) -> float:
    """Return the room that `name_rows` needs left of axes."""
    return min(max(map(text_inches, names)), _MOST_NAME_INCHES) + _BESIDE_NAME_INCHES


def name_rows(axes: Axes, names: Sequence[str], *, shaded: bool = True) -> None:
    """Write names left of the rows 0, 1, … of axes, from top to bottom, and shade every second row.

    Args:
        axes: Whose rows are one unit high; `names_inches` left of it are free.
        names: One a row.
        shaded: Whether to shade.
    """
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks([])
    for row, name in enumerate(names):
        if shaded and row % 2 == 0:
            axes.axhspan(row - 0.5, row + 0.5, color=SHADE, linewidth=0, zorder=0)
        axes.annotate(
            shorten(name, _MOST_NAME_INCHES),
            (0, row),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-3, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=SMALL,
        )


def plain_axes(axes: Axes, *, grid: str = "x") -> None:
    """Leave only the lines that are read: left and bottom, and a pale grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.5, zorder=0)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, colors=MUTED, labelcolor="black")


def spread_apart(wanted: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Return places for labels, as near as can be to where they should be, each a step from the next.

    Args:
        wanted: In any order.
        step: Least distance.
        low: Least place.
        high: Largest place; passed only where there are too many labels.

    Returns:
        In the order given.
    """
    order = np.argsort(np.asarray(wanted, dtype=np.float64), kind="stable")
    # Less a step for each label below, the places need only not decrease: neighbours that would are pooled.
    pools: list[tuple[float, int]] = []
    for number, index in enumerate(order):
        pools.append((wanted[index] - number * step, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (level, few), (lower, more) = pools[-2:]
            pools[-2:] = [((level * few + lower * more) / (few + more), few + more)]
    levels = [level for level, count in pools for _ in range(count)]
    most = max(low, high - (len(wanted) - 1) * step)
    places = [0.0] * len(wanted)
    for number, index in enumerate(order):
        places[index] = min(max(levels[number], low), most) + number * step
    return places
