"""Scores of every class as a map with numbers: a row is a method, a column a class, a panel a scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmbench.profiling.figure_style import SMALL, TINY, Heading
from mmbench.reporting.figures.canvas import (
    COLUMN_INCHES,
    PAGE_INCHES,
    axes_at,
    blank_figure,
    name_rows,
    names_inches,
    text_inches,
)

_NARROWEST, _WIDEST, _ROW, _GAP, _ABOVE = 0.3, 0.42, 0.15, 0.12, 0.16
"""Inches: width of a cell, its height, between panels, for a scenario's name."""
_SHADES = LinearSegmentedColormap.from_list("mmbench_blue", ["#ffffff", "#9ecae1", "#2b7bba", "#08306b"])
"""From white to dark in one hue: as grey, and to colour-blind readers, still in order."""
_DARK = 0.64
"""Share of the scale from which white text is read better than black."""
_SLANT = 35
"""Of the names of classes, degrees."""

ClassScores = Mapping[str, Mapping[str, Sequence[float | None]]]
"""Scenario -> method -> score of each class, in %; None where the truth has none of it."""


def draw_classes(
    scores: ClassScores, classes: Sequence[str], *, title: str, below: str, unscored: Sequence[str] = ()
) -> Figure:
    """Draw the scores of every class with their numbers; the best of a column is bold, of several methods.

    Args:
        scores: Of all methods in every scenario, methods from top to bottom.
        classes: In the order of the scores.
        title: One line.
        below: How the scores were taken.
        unscored: Classes that are left out of the means; their names are in brackets.

    Raises:
        ValueError: If there is no scenario, or a method has another number of scores than there are classes.
    """
    rows = [values for by_method in scores.values() for values in by_method.values()]
    if not rows or any(len(values) != len(classes) for values in rows):
        raise ValueError(f"draw_classes: scores of {len(scores)} scenarios; expected {len(classes)} a method")
    methods = list(next(iter(scores.values())))
    words = [f"({name})" if name in unscored else name for name in classes]
    words = [name.replace("_", " ") for name in words]
    slant = math.radians(_SLANT)
    slanted = max(map(text_inches, words)) * math.sin(slant) + 0.1
    names, edge = names_inches(methods), max(0.06, text_inches(words[-1]) * math.cos(slant) - 0.1)
    across = int((PAGE_INCHES - names - edge + _GAP) / (len(classes) * _NARROWEST + _GAP))
    across = max(1, min(len(scores), across))
    page = COLUMN_INCHES if across == 1 else PAGE_INCHES
    room = (page - names - edge + _GAP) / across - _GAP
    panel = len(classes) * min(max(room / len(classes), _NARROWEST), _WIDEST)
    width = max(COLUMN_INCHES, names + across * (panel + _GAP) - _GAP + edge)
    heading = Heading(title, below, width)
    block = slanted + _ABOVE + len(methods) * _ROW
    lines = math.ceil(len(scores) / across)
    with blank_figure(width, heading.height + lines * block + 0.08, heading) as figure:
        for index, (scenario, by_method) in enumerate(scores.items()):
            line, column = divmod(index, across)
            left = names + column * (panel + _GAP)
            top = heading.height + line * block + slanted + _ABOVE
            axes = axes_at(figure, left, top, panel, len(methods) * _ROW)
            name_rows(axes, methods if column == 0 else [""] * len(methods), shaded=False)
            _draw_cells(axes, [by_method[method] for method in methods], [c in unscored for c in classes])
            _name_columns(axes, words, scenario, slanted)
    return figure


def _draw_cells(axes: Axes, rows: Sequence[Sequence[float | None]], left_out: Sequence[bool]) -> None:
    """Draw a square of colour and a number for each score; a dash where there is none."""
    # Nothing is the best of one method, nor where all are at zero.
    columns = zip(*rows, strict=True) if len(rows) > 1 else ()
    best = [f"{max((v for v in column if v is not None), default=0.0):.1f}" for column in columns]
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            share = 0.0 if value is None else min(max(value / 100, 0.0), 1.0)
            words = "–" if value is None else f"{value:.1f}"
            is_best = words in best[column : column + 1] and words != "0.0" and not left_out[column]
            box = Rectangle((column, row - 0.5), 1, 1, facecolor=_SHADES(share), edgecolor="white", lw=0.5)
            axes.add_patch(box)
            axes.text(
                column + 0.5,
                row,
                words,
                ha="center",
                va="center_baseline",
                fontsize=TINY,
                color="white" if share > _DARK else "black",
                weight="bold" if is_best else "normal",
            )
    axes.set_xlim(0, len(rows[0]))
    axes.set_xticks([])
    axes.spines[:].set_visible(False)


def _name_columns(axes: Axes, words: Sequence[str], scenario: str, slanted: float) -> None:
    """Write the names of the classes above their columns, and the scenario's above all."""
    above: dict[str, Any] = {"xycoords": axes.transData, "textcoords": "offset points"}
    for column, name in enumerate(words):
        axes.annotate(
            name,
            (column + 0.42, -0.5),
            xytext=(0, 2),
            rotation=_SLANT,
            rotation_mode="anchor",
            ha="left",
            fontsize=TINY,
            **above,
        )
    axes.annotate(scenario, (0, -0.5), xytext=(0, slanted * 72), fontsize=SMALL, weight="bold", **above)
