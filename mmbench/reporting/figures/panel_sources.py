"""What panels are made of: stored predictions that belong together, colours of classes, the tiles behind.

A part that is missing or damaged is left out, and the log says why.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from mmbench.errors import DataError, MMBenchError
from mmbench.predictions import Predictions
from mmbench.records import Record, predictions_path, read_confusions, read_predictions
from mmbench.registry import find
from mmbench.reporting.figures.panels import Legend, TileView
from mmbench.reporting.figures.recorded_tiles import open_recorded, recorded_view

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


def view_at_hand(results: Path, record: Record, predictions: Predictions, tile_id: str) -> TileView:
    """Return images and truth of a tile, neither where its dataset is not at hand.

    Args:
        results: Folder of the record.
        record: A finished one.
        predictions: Its own, or of the same windows.
        tile_id: The tile.
    """
    try:
        dataset = open_recorded(record)
        matrices = read_confusions(results, record)
        return recorded_view(dataset, record, matrices, predictions, tile_id)
    except MMBenchError as error:
        _LOG.info("panels without images and truth: %s", error)
        return TileView(tile_id)
