"""What methods see: input, truth, and each method's prediction and errors under each scenario, of one tile.

Axes: C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mmbench.datasets._dataset import Dataset, Labels
from mmbench.predictions import Predictions
from mmbench.profiling.figure_style import MUTED, SMALL, TINY, Heading
from mmbench.reporting.figures.canvas import (
    COLUMN_INCHES,
    PAGE_INCHES,
    axes_at,
    blank_figure,
    shorten,
    write_at,
)
from mmbench.reporting.figures.pictures import (
    RIGHT,
    WRONG,
    Picture,
    class_picture,
    error_picture,
    modality_picture,
)

MOST_METHODS = 6
"""Of one figure: more are too small to be looked at."""
_EDGE, _GAP, _WORDS, _NAME = 0.05, 0.05, 0.13, 0.16
"""Inches: at the sides, between pictures, a line of words at a picture, the methods' names."""
_LARGEST = 1.15
"""Inches: side of a picture, however few there are."""
_FRAME = "#8c8c8c"


@dataclass(frozen=True)
class Legend:
    """What class indices mean.

    Attributes:
        classes: Their names.
        palette: Their colours.
        ignore_index: Index of what is no class.
    """

    classes: Sequence[str]
    palette: Sequence[tuple[int, int, int]]
    ignore_index: int = 255


@dataclass(frozen=True)
class TileView:
    """What is known of a tile beside the predictions; images and truth only where the dataset is at hand.

    Attributes:
        tile_id: Its id.
        images: Modality -> (C, H, W) of the window of the predictions, in its own unit.
        target: (H, W) uint8 truth of the same window, or None.
    """

    tile_id: str
    images: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    target: NDArray[np.uint8] | None = None


def read_view(dataset: Dataset, predictions: Predictions, tile_id: str, labels: Labels) -> TileView:
    """Read what lies behind a tile's predictions.

    Raises:
        DataError: If the dataset lacks the tile or one of its files.
    """
    sample = dataset.read(tile_id, predictions.windows[tile_id], labels=labels)
    return TileView(tile_id, sample.images, sample.target)


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
    inputs = _inputs(view, legend)
    entries = _entries(legend, view)
    shape = next(iter(methods.values())).classes[view.tile_id, scenarios[0]].shape
    layout = _Layout(len(methods), shape[0] / shape[1], has_errors=view.target is not None)
    heading = Heading(title, below, layout.width)
    top = heading.height + 0.06
    of_inputs = len(inputs) * layout.input_height + _NAME + len(entries) * _WORDS + 0.04
    height = top + max(_NAME + len(scenarios) * layout.band, of_inputs) + 0.04
    with blank_figure(layout.width, height, heading) as figure:
        _draw_inputs(figure, inputs, entries, layout, top + _NAME)
        for column, (name, predictions) in enumerate(methods.items()):
            left = layout.left(column + 1)
            write_at(figure, left, top, shorten(name, layout.side, "bold"), weight="bold")
            for row, scenario in enumerate(scenarios):
                place = (left, top + _NAME + row * layout.band)
                if column == 0:
                    words = "given all" if scenario == "full" else f"given {scenario}"
                    write_at(figure, *place, words, color=MUTED)
                _draw_case(figure, predictions.classes[view.tile_id, scenario], view, legend, layout, place)
    return figure


@dataclass(frozen=True)
class _Layout:
    """Where pictures stand, inches.

    Attributes:
        methods: Columns beside that of the inputs.
        ratio: Height of a picture over its width.
        has_errors: Whether a map of errors stands below each prediction.
    """

    methods: int
    ratio: float
    has_errors: bool

    @property
    def side(self) -> float:
        """Width of a picture."""
        return min(_LARGEST, (PAGE_INCHES - 2 * _EDGE + _GAP) / (self.methods + 1) - _GAP)

    @property
    def tall(self) -> float:
        """Height of a picture."""
        return self.side * self.ratio

    @property
    def width(self) -> float:
        """Of the figure."""
        return max(COLUMN_INCHES, self.left(self.methods + 1) - _GAP + _EDGE)

    @property
    def input_height(self) -> float:
        """Of an input with its caption and what lies between it and the next."""
        return self.tall + _WORDS + _GAP

    @property
    def band(self) -> float:
        """Height of a scenario."""
        return self.input_height + (self.tall + _WORDS + _GAP if self.has_errors else 0.0)

    def left(self, column: int) -> float:
        """Return where a column begins."""
        return _EDGE + column * (self.side + _GAP)


def _inputs(view: TileView, legend: Legend) -> list[tuple[str, Picture]]:
    """Return what a tile's images and its truth look like, each with its caption."""
    shown = [(_caption(name, image), modality_picture(image)) for name, image in view.images.items()]
    if view.target is not None:
        shown.append(("truth", class_picture(view.target, legend.palette, legend.ignore_index)))
    return shown


def _caption(name: str, image: NDArray[Any]) -> str:
    """Return a modality's name, of a height with its range."""
    if image.dtype == np.uint8 or len(image) != 1:
        return name
    return f"{name}, {image.min():.0f} to {image.max():.0f} m"


def _draw_inputs(
    figure: Figure,
    inputs: Sequence[tuple[str, Picture]],
    entries: Sequence[tuple[str, tuple[int, int, int]]],
    layout: _Layout,
    top: float,
) -> None:
    """Draw the first column: inputs with their captions, below them the legend."""
    for words, picture in inputs:
        write_at(figure, _EDGE, top, shorten(words, layout.side))
        _show(figure, picture, (_EDGE, top + _WORDS), layout)
        top += layout.input_height
    for line, (words, colour) in enumerate(entries):
        _write_entry(figure, words, colour, top + 0.04 + (line + 0.5) * _WORDS)


def _draw_case(
    figure: Figure,
    classes: NDArray[np.uint8],
    view: TileView,
    legend: Legend,
    layout: _Layout,
    place: tuple[float, float],
) -> None:
    """Draw one prediction and, where the truth is known, its errors below."""
    left, top = place[0], place[1] + _WORDS
    _show(figure, class_picture(classes, legend.palette, legend.ignore_index), (left, top), layout)
    if view.target is None:
        return
    errors, share = error_picture(classes, view.target, legend.ignore_index)
    top += layout.tall + _GAP
    _show(figure, errors, (left, top), layout)
    if share is not None:
        words = f"{100 * share:.1f} % right"
        write_at(figure, left, top + layout.tall + 0.025, words, fontsize=TINY, color=MUTED)


def _show(figure: Figure, picture: Picture, place: tuple[float, float], layout: _Layout) -> None:
    """Show a picture in a thin frame, its upper left corner at a place in inches."""
    axes = axes_at(figure, *place, layout.side, layout.tall)
    axes.imshow(picture, aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(_FRAME)
    axes.spines[:].set_linewidth(0.4)


def _entries(legend: Legend, view: TileView) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the lines of the legend: classes, and what the shades of an error map mean."""
    lines = [(n.replace("_", " "), c) for n, c in zip(legend.classes, legend.palette, strict=True)]
    return lines if view.target is None else [*lines, ("right", RIGHT), ("wrong", WRONG)]


def _write_entry(figure: Figure, words: str, colour: tuple[int, int, int], middle: float) -> None:
    """Write a line of the legend behind a square of its colour, so many inches from the top."""
    width, height = figure.get_size_inches()
    square = Rectangle(
        (_EDGE / width, 1 - (middle + 0.04) / height),
        0.08 / width,
        0.08 / height,
        facecolor=tuple(value / 255 for value in colour),
        edgecolor=_FRAME,
        linewidth=0.4,
        transform=figure.transFigure,
    )
    figure.add_artist(square)
    write_at(figure, _EDGE + 0.13, middle, words, fontsize=SMALL, va="center_baseline")
