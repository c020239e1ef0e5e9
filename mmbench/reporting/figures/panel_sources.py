"""What panels are made of: stored predictions that belong together, colours of classes, the tiles behind.

A part that is missing or damaged is left out, and the log says why.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmbench.errors import DataError, MMBenchError
from mmbench.predictions import Predictions
from mmbench.records import Record, predictions_path, read_confusions, read_predictions
from mmbench.registry import find
from mmbench.reporting.data_places import DataPlace
from mmbench.reporting.figures.recorded_tiles import open_recorded, recorded_view
from mmbench.reporting.figures.tile_views import Legend, TileView

_LOG = logging.getLogger("mmbench")


def stored_predictions(results: Path, records: Mapping[str, Record], most: int) -> dict[str, Predictions]:
    """Read the predictions of the first records that have some, all of the same windows.

    Args:
        results: Folder of the records.
        records: Name of a row -> one of its records.
        most: How many to read.
    """
    found: dict[str, Predictions] = {}
    for label, record in records.items():
        if len(found) == most:
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


def recorded_legend(record: Record) -> Legend:
    """Return the names and colours of a record's classes.

    Raises:
        MMBenchError: If its dataset is not installed: colours stand in no record.
    """
    dataset = find("dataset", record.identity["dataset"]["name"])
    return Legend(record.classes, dataset.palette[: len(record.classes)], dataset.ignore_index)


def views_at_hand(
    results: Path, record: Record, predictions: Predictions, tiles: Sequence[str], place: DataPlace
) -> Iterator[TileView]:
    """Yield images and truth of some tiles, neither where their dataset is not at hand.

    Args:
        results: Folder of the record.
        record: A finished one.
        predictions: Its own, or of the same windows.
        tiles: Their ids.
        place: Where the dataset lies.

    Raises:
        MMBenchError: If it was said where the dataset lies, and it is not the recorded one.
    """
    try:
        dataset, matrices = open_recorded(record, place), read_confusions(results, record)
    except MMBenchError as error:
        _leave_out(error, place)
        yield from map(TileView, tiles)
        return
    for tile_id in tiles:
        try:
            view = recorded_view(dataset, record, matrices, predictions, tile_id)
        except MMBenchError as error:
            _leave_out(error, place)
            view = TileView(tile_id)
        yield view


def _leave_out(error: MMBenchError, place: DataPlace) -> None:
    """Go on without images and truth; not where it was said in which place they are."""
    if place.is_said:
        raise error
    _LOG.info("panels without images and truth: %s", error)
