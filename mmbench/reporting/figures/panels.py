"""What methods see: input, truth, and each method's prediction and errors under each scenario, of one tile.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmbench.predictions import Predictions
from mmbench.profiling.figure_style import MUTED, TINY, Heading
from mmbench.reporting.figures.canvas import blank_figure, shorten, write_at
from mmbench.reporting.figures.pictures import RIGHT, WRONG, Colour, Picture, class_picture, error_picture
from mmbench.reporting.figures.tile_views import (
    EDGE,
    GAP,
    WORDS,
    Columns,
    Legend,
    TileView,
    given_words,
    input_pictures,
    write_entry,
)

MOST_METHODS = 6
"""Of one figure: more are too small to be looked at."""
_NAME = 0.16
"""Height of the methods' names, inches."""


def draw_panels(
    view: TileView,
    methods: Mapping[str, Predictions],
    scenarios: Sequence[str],
    legend: Legend,
    *,
    title: str,
    below: str,
) -> Figure:
    """Draw one tile, at most at page width: a column is a method, a band a scenario.

    Args:
        view: The tile; without truth there are no errors, without images no inputs.
        methods: Name -> its predictions, at most `MOST_METHODS`.
        scenarios: From top to bottom.
        legend: Of the classes.
        title: One line.
        below: How the predictions came about.

    Raises:
        ValueError: If there is no method or scenario, or too many methods.
    """
    if not methods or not scenarios or len(methods) > MOST_METHODS:
        raise ValueError(
            f"draw_panels: {len(methods)} methods, {len(scenarios)} scenarios; "
            f"expected 1 to {MOST_METHODS} methods and a scenario"
        )
    inputs = input_pictures(view, legend)
    entries = _entries(legend, view)
    shape = next(iter(methods.values())).classes[view.tile_id, scenarios[0]].shape
    columns = Columns(1 + len(methods), shape[0] / shape[1])
    layout = _Layout(columns, has_errors=view.target is not None)
    heading = Heading(title, below, columns.width)
    top = heading.height + 0.06
    of_inputs = len(inputs) * layout.input_height + _NAME + len(entries) * WORDS + 0.04
    height = top + max(_NAME + len(scenarios) * layout.band, of_inputs) + 0.04
    with blank_figure(columns.width, height, heading) as figure:
        _draw_inputs(figure, inputs, entries, layout, top + _NAME)
        for column, (name, predictions) in enumerate(methods.items()):
            left = columns.left(column + 1)
            write_at(figure, left, top, shorten(name, columns.side, "bold"), weight="bold")
            for row, scenario in enumerate(scenarios):
                place = (left, top + _NAME + row * layout.band)
                if column == 0:
                    write_at(figure, *place, given_words(scenario), color=MUTED)
                _draw_case(figure, predictions.classes[view.tile_id, scenario], view, legend, layout, place)
    return figure


@dataclass(frozen=True)
class _Layout:
    """How high the parts of the figure are, inches.

    Attributes:
        columns: That of the inputs, then one a method.
        has_errors: Whether a map of errors stands below each prediction.
    """

    columns: Columns
    has_errors: bool

    @property
    def input_height(self) -> float:
        """Of an input with its caption and what lies between it and the next."""
        return self.columns.tall + WORDS + GAP

    @property
    def band(self) -> float:
        """Of a scenario."""
        return self.input_height + (self.input_height if self.has_errors else 0.0)


def _draw_inputs(
    figure: Figure,
    inputs: Sequence[tuple[str, Picture]],
    entries: Sequence[tuple[str, Colour]],
    layout: _Layout,
    top: float,
) -> None:
    """Draw the first column: inputs with their captions, below them the legend."""
    for words, picture in inputs:
        write_at(figure, EDGE, top, shorten(words, layout.columns.side))
        layout.columns.show(figure, picture, (EDGE, top + WORDS))
        top += layout.input_height
    for line, (words, colour) in enumerate(entries):
        write_entry(figure, words, colour, EDGE, top + 0.04 + (line + 0.5) * WORDS)


def _draw_case(
    figure: Figure,
    classes: NDArray[np.uint8],
    view: TileView,
    legend: Legend,
    layout: _Layout,
    place: tuple[float, float],
) -> None:
    """Draw one prediction and, where the truth is known, its errors below."""
    columns = layout.columns
    left, top = place[0], place[1] + WORDS
    columns.show(figure, class_picture(classes, legend.palette, legend.ignore_index), (left, top))
    if view.target is None:
        return
    errors, share = error_picture(classes, view.target, legend.ignore_index)
    top += columns.tall + GAP
    columns.show(figure, errors, (left, top))
    if share is not None:
        words = f"{100 * share:.1f} % right"
        write_at(figure, left, top + columns.tall + 0.025, words, fontsize=TINY, color=MUTED)


def _entries(legend: Legend, view: TileView) -> list[tuple[str, Colour]]:
    """Return the lines of the legend: classes, and what the shades of an error map mean."""
    return legend.entries if view.target is None else [*legend.entries, ("right", RIGHT), ("wrong", WRONG)]
