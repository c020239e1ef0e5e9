"""Figures of a report as files: every leaderboard's, and panels of the tiles on which methods differ most."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mmbench.errors import DataError, MMBenchError
from mmbench.predictions import Predictions
from mmbench.profiling.figure_style import save_figure
from mmbench.records import Record, predictions_path, read_confusions, read_predictions
from mmbench.registry import find
from mmbench.reporting.figures.boards import BoardFigures
from mmbench.reporting.figures.panels import MOST_METHODS, Legend, TileView, draw_panels
from mmbench.reporting.figures.pictures import most_disputed
from mmbench.reporting.figures.recorded_tiles import open_recorded, recorded_view
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.matrices import load_matrices

_LOG = logging.getLogger("mmbench")
FORMATS = ("pdf", "png")
_PANEL_TILES = 2
_SCENARIOS_OF_PANELS = 7
"""All of three modalities; of four the first ones, with which most is present."""


def write_figures(
    results: Path, records: Sequence[Record], boards: Sequence[Leaderboard], folder: Path
) -> list[Path]:
    """Draw all that the records hold and write it as PDF and PNG.

    Args:
        results: Folder of the records.
        records: Those behind the boards.
        boards: Those without a complete row are passed over.
        folder: Made if it is not there.

    Returns:
        The files, in the order of writing.
    """
    by_id = {record.id: record for record in records}
    shown = [board for board in boards if board.rows]
    written = []
    for number, board in enumerate(shown, 1):
        held = [by_id[result.record] for row in board.rows for result in row.results]
        prefix = f"{number}-" if len(shown) > 1 else ""
        for name, figure in _figures(results, held, board):
            for suffix in FORMATS:
                written.append(folder / f"{prefix}{name}.{suffix}")
                save_figure(figure, written[-1])
    return written


def _figures(results: Path, records: Sequence[Record], board: Leaderboard) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of one board with their names."""
    try:
        matrices = load_matrices(results, records, board.labels)
    except DataError as error:
        _LOG.warning("no figures of the scores: %s", error)
    else:
        yield from BoardFigures(board, matrices).draw().items()
    yield from _panels(results, records, board)


def _panels(results: Path, records: Sequence[Record], board: Leaderboard) -> Iterator[tuple[str, Figure]]:
    """Yield panels of the most disputed tiles: the first rows, each with its first seed."""
    by_id = {record.id: record for record in records}
    firsts = {row.label: by_id[row.results[0].record] for row in board.rows}
    methods = _stored_predictions(results, firsts)
    if not methods:
        return
    first = firsts[next(iter(methods))]
    try:
        legend = _legend(first)
    except MMBenchError as error:
        _LOG.warning("no panels of predictions: %s", error)
        return
    scenarios = board.scenarios[:_SCENARIOS_OF_PANELS]
    seeds = sorted({firsts[label].identity["seed"] for label in methods})
    for number, tile_id in enumerate(most_disputed(list(methods.values()), scenarios, _PANEL_TILES), 1):
        view, words = _view(results, first, methods, tile_id)
        yield (
            f"tile{number}",
            draw_panels(
                view,
                methods,
                scenarios,
                legend,
                title=f"Tile {tile_id}: what each method predicts",
                below=f"{board.conditions}; shown: seed {', '.join(map(str, seeds))}; {words}",
            ),
        )


def _stored_predictions(results: Path, records: Mapping[str, Record]) -> dict[str, Predictions]:
    """Return the predictions of the first rows that have some, all of the same windows."""
    found: dict[str, Predictions] = {}
    for label, record in records.items():
        if len(found) == MOST_METHODS:
            break
        if not predictions_path(results, record.id).is_file():
            continue
        try:
            predictions = read_predictions(results, record)
        except DataError as error:
            _LOG.warning("%s is left out of the panels: %s", label, error)
            continue
        if not found or predictions.windows == next(iter(found.values())).windows:
            found[label] = predictions
    return found


def _legend(record: Record) -> Legend:
    """Return the names and colours of a record's classes.

    Raises:
        MMBenchError: If its dataset is not installed: colours stand in no record.
    """
    dataset = find("dataset", record.identity["dataset"]["name"])
    return Legend(record.classes, dataset.palette[: len(record.classes)], dataset.ignore_index)


def _view(
    results: Path, record: Record, methods: Mapping[str, Predictions], tile_id: str
) -> tuple[TileView, str]:
    """Return what is at hand of a tile, and words on it."""
    try:
        dataset = open_recorded(record)
        matrices = read_confusions(results, record)
        view = recorded_view(dataset, record, matrices, next(iter(methods.values())), tile_id)
    except MMBenchError as error:
        _LOG.info("panels without images and truth: %s", error)
        return TileView(tile_id), "predictions only, the dataset is not at hand"
    return view, "below each prediction its errors, white where the eroded labels ignore"
