"""Tiles in figures: what is known of them beside predictions, as pictures in a frame and lines of a legend.

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
from mmbench.profiling.figure_style import SMALL
from mmbench.reporting.figures.canvas import COLUMN_INCHES, PAGE_INCHES, axes_at, write_at
from mmbench.reporting.figures.pictures import Colour, Picture, class_picture, modality_picture

EDGE, GAP, WORDS = 0.05, 0.05, 0.13
"""Inches: at the sides of a figure, between pictures, a line of words at a picture."""
ENTRY_INCHES = 0.13
"""From the square of an entry of a legend to its words."""
_LARGEST, _SQUARE = 1.15, 0.08
"""Inches: side of a picture, however few there are, and of the square of an entry."""
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
    palette: Sequence[Colour]
    ignore_index: int = 255

    @property
    def entries(self) -> list[tuple[str, Colour]]:
        """The lines of the legend: each class in words, with its colour."""
        return [(n.replace("_", " "), c) for n, c in zip(self.classes, self.palette, strict=True)]


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


@dataclass(frozen=True)
class Columns:
    """Pictures side by side, each in a box of one size, at most at page width; all in inches.

    Attributes:
        count: Of the columns.
        ratio: Height of a box over its width.
    """

    count: int
    ratio: float

    @property
    def side(self) -> float:
        """Width of a box."""
        return min(_LARGEST, (PAGE_INCHES - 2 * EDGE + GAP) / self.count - GAP)

    @property
    def tall(self) -> float:
        """Height of a box."""
        return self.side * self.ratio

    @property
    def width(self) -> float:
        """Of the figure."""
        return max(COLUMN_INCHES, self.left(self.count) - GAP + EDGE)

    def left(self, column: int) -> float:
        """Return where a column begins."""
        return EDGE + column * (self.side + GAP)

    def show(self, figure: Figure, picture: Picture, place: tuple[float, float]) -> None:
        """Show a picture in a thin frame, as large as its box has room for.

        Args:
            figure: To show it in.
            picture: (H, W, 3) uint8.
            place: Of its upper left corner, from the figure's.
        """
        height, width, _ = picture.shape
        scale = min(self.side / width, self.tall / height)
        axes = axes_at(figure, *place, width * scale, height * scale)
        axes.imshow(picture, aspect="auto")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(_FRAME)
        axes.spines[:].set_linewidth(0.4)


def read_view(dataset: Dataset, predictions: Predictions, tile_id: str, labels: Labels) -> TileView:
    """Read what lies behind a tile's predictions.

    Raises:
        DataError: If the dataset lacks the tile or one of its files.
    """
    sample = dataset.read(tile_id, predictions.windows[tile_id], labels=labels)
    return TileView(tile_id, sample.images, sample.target)


def input_pictures(view: TileView, legend: Legend) -> list[tuple[str, Picture]]:
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


def given_words(scenario: str) -> str:
    """Return what a method was given under a scenario."""
    return "given all" if scenario == "full" else f"given {scenario}"


def write_entry(figure: Figure, words: str, colour: Colour, left: float, middle: float) -> None:
    """Write a line of a legend behind a square of its colour.

    Args:
        figure: To write it in.
        words: Of the line.
        colour: Of the square.
        left: Where the square begins, inches.
        middle: Of the line, from the figure's top, inches.
    """
    width, height = figure.get_size_inches()
    square = Rectangle(
        (left / width, 1 - (middle + _SQUARE / 2) / height),
        _SQUARE / width,
        _SQUARE / height,
        facecolor=tuple(value / 255 for value in colour),
        edgecolor=_FRAME,
        linewidth=0.4,
        transform=figure.transFigure,
    )
    figure.add_artist(square)
    write_at(figure, left + ENTRY_INCHES, middle, words, fontsize=SMALL, va="center_baseline")
