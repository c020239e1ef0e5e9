"""Where two methods differ and who is right there: a block a tile, in it a row a scenario.

Axes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmbench.predictions import Predictions
from mmbench.profiling.figure_style import MUTED, TINY, Heading
from mmbench.reporting.figures.canvas import blank_figure, shorten, text_inches, write_at
from mmbench.reporting.figures.pictures import (
    BOTH_ALIKE,
    BOTH_DIFFER,
    BOTH_RIGHT,
    ONLY_FIRST,
    ONLY_SECOND,
    UNCOUNTED,
    VERDICT_COLOURS,
    Colour,
    Picture,
    class_picture,
    right_share,
    verdicts,
)
from mmbench.reporting.figures.tile_views import (
    EDGE,
    ENTRY_INCHES,
    GAP,
    WORDS,
    Columns,
    Legend,
    TileView,
    given_words,
    input_pictures,
    write_entry,
)

_BLOCK, _BETWEEN = 0.16, 0.06
"""Inches: the line above a tile, and what lies between tiles."""
_PREDICTED = 3
"""Columns of a row beside the inputs: either prediction, and who is right."""
_WITH_TRUTH = {
    BOTH_RIGHT: "both right",
    ONLY_FIRST: "only A right",
    ONLY_SECOND: "only B right",
    BOTH_DIFFER: "both wrong, differing",
    BOTH_ALIKE: "both wrong, alike",
    UNCOUNTED: "not counted",
}
_WITHOUT_TRUTH = {BOTH_RIGHT: "the same class", BOTH_DIFFER: "different classes"}


@dataclass(frozen=True)
class DisputedTile:
    """A tile on which two methods differ.

    Attributes:
        view: Without truth nobody is right, without images there are no inputs.
        words: What it gives to their difference; one line.
    """

    view: TileView
    words: str


def draw_disputes(
    tiles: Sequence[DisputedTile],
    pair: tuple[Predictions, Predictions],
    scenarios: Sequence[str],
    legend: Legend,
    *,
    title: str,
    below: str,
) -> Figure:
    """Draw some tiles, at most at page width.

    Of one scenario a tile is one row, its inputs first; of several, the inputs stand one below the other.

    Args:
        tiles: From top to bottom; all with truth and images, or none.
        pair: What the methods A and B predict.
        scenarios: From top to bottom.
        legend: Of the classes.
        title: One line.
        below: Who A and B are, and how the predictions came about.

    Raises:
        ValueError: If there is no tile or no scenario.
    """
    if not tiles or not scenarios:
        raise ValueError(
            f"draw_disputes: {len(tiles)} tiles, {len(scenarios)} scenarios; expected one of each"
        )
    drawing = _Drawing(tiles, pair, scenarios, legend)
    columns = drawing.columns
    entries = drawing.entries
    places = _entry_places(entries, columns.width)
    heading = Heading(title, below, columns.width)
    top = heading.height + 0.06
    of_legend = (1 + places[-1][0]) * WORDS
    height = top + len(tiles) * (drawing.block + _BETWEEN) + of_legend + 0.04
    with blank_figure(columns.width, height, heading) as figure:
        for tile in tiles:
            drawing.draw(figure, tile, top)
            top += drawing.block + _BETWEEN
        flat = [entry for group in entries for entry in group]
        for (words, colour), (line, left) in zip(flat, places, strict=True):
            write_entry(figure, words, colour, left, top + (line + 0.5) * WORDS)
    return figure


class _Drawing:
    """Draws tiles one by one."""

    def __init__(
        self,
        tiles: Sequence[DisputedTile],
        pair: tuple[Predictions, Predictions],
        scenarios: Sequence[str],
        legend: Legend,
    ) -> None:
        """Find out how many rows and columns a tile takes."""
        self._pair, self._scenarios, self._legend = pair, scenarios, legend
        view = tiles[0].view
        self._has_truth = view.target is not None
        inputs = len(view.images) + self._has_truth
        self._stacked = len(scenarios) > 1
        self._before = min(inputs, 1) if self._stacked else inputs
        self._rows = max(len(scenarios), inputs if self._stacked else 1)
        shapes = [pair[0].classes[tile.view.tile_id, scenarios[0]].shape for tile in tiles]
        self.columns = Columns(self._before + _PREDICTED, max(height / width for height, width in shapes))

    @property
    def block(self) -> float:
        """Height of a tile, inches."""
        return _BLOCK + self._rows * self._row

    @property
    def _row(self) -> float:
        """Height of a row: pictures, their captions above and what is to be said of them below."""
        return self.columns.tall + 2 * WORDS + GAP

    @property
    def entries(self) -> list[list[tuple[str, Colour]]]:
        """The legend: of the classes, and of who is right."""
        words = _WITH_TRUTH if self._has_truth else _WITHOUT_TRUTH
        return [self._legend.entries, [(text, VERDICT_COLOURS[n]) for n, text in words.items()]]

    def draw(self, figure: Figure, tile: DisputedTile, top: float) -> None:
        """Draw a tile, its upper edge so many inches from the figure's."""
        write_at(figure, EDGE, top, shorten(tile.words, self.columns.width - 2 * EDGE, "bold"), weight="bold")
        for number, (words, picture) in enumerate(input_pictures(tile.view, self._legend)):
            place = (number, 0) if self._stacked else (0, number)
            self._show(figure, top, place, words, picture)
        for row, scenario in enumerate(self._scenarios):
            self._draw_scenario(figure, tile.view, scenario, top, row)

    def _draw_scenario(self, figure: Figure, view: TileView, scenario: str, top: float, row: int) -> None:
        """Draw both predictions under a scenario, and who is right."""
        palette, ignored = self._legend.palette, self._legend.ignore_index
        both = [predictions.classes[view.tile_id, scenario] for predictions in self._pair]
        for number, (letter, classes) in enumerate(zip("AB", both, strict=True)):
            share = None if view.target is None else right_share(classes, view.target, ignored)
            said = "" if share is None else f"{100 * share:.1f} % right"
            place = (row, self._before + number)
            words = f"{letter}, {given_words(scenario)}"
            self._show(figure, top, place, words, class_picture(classes, palette, ignored), said)
        codes = (
            np.where(both[0] == both[1], BOTH_RIGHT, BOTH_DIFFER).astype(np.uint8)
            if view.target is None
            else verdicts(both[0], both[1], view.target, ignored)
        )
        words = "where they differ" if view.target is None else "who is right"
        picture = np.array(VERDICT_COLOURS, dtype=np.uint8)[codes]
        self._show(figure, top, (row, self._before + 2), words, picture, _verdict_words(codes, view.target))

    def _show(
        self, figure: Figure, top: float, place: tuple[int, int], words: str, picture: Picture, said: str = ""
    ) -> None:
        """Show a picture at (row, column) of a tile, words above it, and below it what is said of it."""
        left, upper = self.columns.left(place[1]), top + _BLOCK + place[0] * self._row
        write_at(figure, left, upper, shorten(words, self.columns.side), color=MUTED)
        self.columns.show(figure, picture, (left, upper + WORDS))
        lower = upper + WORDS + self.columns.tall + 0.025
        write_at(figure, left, lower, said, fontsize=TINY, color=MUTED)


def _verdict_words(codes: NDArray[np.uint8], target: NDArray[np.uint8] | None) -> str:
    """Say on how many pixels either alone is right; without truth, on how many they differ."""
    counted = codes != UNCOUNTED
    if not counted.any():
        return ""
    if target is None:
        return f"{100 * (codes == BOTH_DIFFER).mean():.1f} % differ"
    shares = [100 * float((codes[counted] == code).mean()) for code in (ONLY_FIRST, ONLY_SECOND)]
    return f"only A {shares[0]:.1f} %, B {shares[1]:.1f} %"


def _entry_places(groups: Sequence[Sequence[tuple[str, Colour]]], width: float) -> list[tuple[int, float]]:
    """Return the line, from 0, and the left edge, inches, of each entry; each group begins a line."""
    places: list[tuple[int, float]] = []
    for group in groups:
        line, left = places[-1][0] + 1 if places else 0, EDGE
        for words, _ in group:
            needed = ENTRY_INCHES + text_inches(words)
            if left > EDGE and left + needed > width - EDGE:
                line, left = line + 1, EDGE
            places.append((line, left))
            left += needed + 2 * GAP
    return places
