"""Figures of a report as files: every leaderboard's, and panels of the tiles on which methods differ most."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mmbench.errors import DataError, MMBenchError
from mmbench.predictions import Predictions
from mmbench.profiling.figure_style import save_figure
from mmbench.records import Record
from mmbench.reporting.data_places import DEFAULT_PLACE, DataPlace
from mmbench.reporting.figures.boards import BoardFigures
from mmbench.reporting.figures.panel_sources import recorded_legend, stored_predictions, views_at_hand
from mmbench.reporting.figures.panels import MOST_METHODS, draw_panels
from mmbench.reporting.figures.pictures import most_disputed
from mmbench.reporting.figures.tile_views import TileView
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.matrices import load_matrices

_LOG = logging.getLogger("mmbench")
FORMATS = ("pdf", "png")
_PANEL_FIGURES, _METHODS_OF_PANELS = 2, 12
"""A figure of a tile takes two seconds to write; the page shows more of them."""
_SCENARIOS_OF_PANELS = 7
"""All of three modalities; of four the first ones, with which most is present."""


def write_figures(
    results: Path,
    records: Sequence[Record],
    boards: Sequence[Leaderboard],
    folder: Path,
    place: DataPlace = DEFAULT_PLACE,
) -> list[Path]:
    """Draw all that the records hold and write it as PDF and PNG.

    Args:
        results: Folder of the records.
        records: Those behind the boards.
        boards: Those without a complete row are passed over.
        folder: Made if it is not there.
        place: Where the data behind the records lie.

    Returns:
        The files, in the order of writing.

    Raises:
        MMBenchError: If it was said where the data lie, and they are not the recorded ones.
    """
    by_id = {record.id: record for record in records}
    shown = [board for board in boards if board.rows]
    written = []
    for number, board in enumerate(shown, 1):
        held = [by_id[result.record] for row in board.rows for result in row.results]
        prefix = f"{number}-" if len(shown) > 1 else ""
        for name, figure in _figures(results, held, board, place):
            for suffix in FORMATS:
                written.append(folder / f"{prefix}{name}.{suffix}")
                save_figure(figure, written[-1])
    return written


def _figures(
    results: Path, records: Sequence[Record], board: Leaderboard, place: DataPlace
) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of one board with their names."""
    try:
        matrices = load_matrices(results, records, board.labels)
    except DataError as error:
        _LOG.warning("no figures of the scores: %s", error)
    else:
        yield from BoardFigures(board, matrices).draw().items()
    yield from _panels(results, records, board, place)


def _panels(
    results: Path, records: Sequence[Record], board: Leaderboard, place: DataPlace
) -> Iterator[tuple[str, Figure]]:
    """Yield panels of the most disputed tiles: each row with its first seed."""
    by_id = {record.id: record for record in records}
    firsts = {row.label: by_id[row.results[0].record] for row in board.rows}
    methods = stored_predictions(results, firsts, _METHODS_OF_PANELS)
    if not methods:
        return
    first = firsts[next(iter(methods))]
    try:
        legend = recorded_legend(first)
    except MMBenchError as error:
        _LOG.warning("no panels of predictions: %s", error)
        return
    scenarios = board.scenarios[:_SCENARIOS_OF_PANELS]
    seeds = sorted({firsts[label].identity["seed"] for label in methods})
    shown = list(methods.values())
    left_out = f"; {len(methods)} of {len(firsts)} methods" if len(methods) < len(firsts) else ""
    parts = _parts(methods)
    tiles = most_disputed(shown, scenarios, max(1, _PANEL_FIGURES // len(parts)))
    for number, view in enumerate(views_at_hand(results, first, shown[0], tiles, place), 1):
        for turn, part in enumerate(parts, 1):
            several = len(parts) > 1
            yield (
                f"tile{number}-{turn}" if several else f"tile{number}",
                draw_panels(
                    view,
                    part,
                    scenarios,
                    legend,
                    title=f"Tile {view.tile_id}: what each method predicts"
                    f"{f' ({turn} of {len(parts)})' if several else ''}",
                    below=f"{board.conditions}; shown: seed {', '.join(map(str, seeds))}{left_out}; "
                    f"{_words(view)}",
                ),
            )


def _parts(methods: Mapping[str, Predictions]) -> list[dict[str, Predictions]]:
    """Divide methods among as few figures as hold them, as evenly as can be."""
    size = math.ceil(len(methods) / math.ceil(len(methods) / MOST_METHODS))
    items = iter(methods.items())
    return [dict(part) for part in iter(lambda: list(itertools.islice(items, size)), [])]


def _words(view: TileView) -> str:
    """Say what is shown of a tile beside the predictions."""
    if view.target is None:
        return "predictions only, the dataset is not at hand"
    return "below each prediction its errors, white where the eroded labels ignore"
