"""What lies behind recorded predictions: the tiles of a dataset that is the recorded one, pixel for pixel.

Axes: T tile, K class.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmbench.datasets._dataset import TEST_LABELS, Dataset, row_bands
from mmbench.errors import DataError
from mmbench.predictions import Predictions, central_window
from mmbench.records import Record
from mmbench.registry import find
from mmbench.reporting.data_places import DataPlace
from mmbench.reporting.figures.tile_views import TileView, read_view

_BAND_ROWS = 512


def open_recorded(record: Record, place: DataPlace) -> Dataset:
    """Open the dataset of a record with the recorded options.

    Args:
        record: A finished one.
        place: Where its files lie.

    Raises:
        MMBenchError: If it is not installed, its files are not there, or it has other tiles or options.
    """
    stored = record.identity["dataset"]
    dataset_class = find("dataset", stored["name"])
    options = {key: stored[key] for key in inspect.signature(dataset_class).parameters if key in stored}
    options.pop("split", None)  # in an identity it is the hash of the split
    named = record.provenance.get("split")
    split = place.split_file or (named if named in dataset_class.splits else None)
    try:
        dataset = dataset_class(root=place.root, split=split, **options)
    except (TypeError, ValueError) as error:
        raise DataError(f"dataset {stored['name']!r} does not take its recorded options: {error}") from error
    dataset.require_files()
    changed = [key for key, value in dataset.identity.items() if key in stored and stored[key] != value]
    if list(dataset.split.test) != record.tiles or list(dataset.classes) != record.classes or changed:
        what = ", ".join(changed) or "split or classes"
        raise DataError(f"dataset {stored['name']!r} is not that of record {record.id}: other {what}")
    return dataset


def recorded_view(
    dataset: Dataset,
    record: Record,
    matrices: Mapping[str, NDArray[np.int64]],
    predictions: Predictions,
    tile_id: str,
) -> TileView:
    """Read a tile's window for pictures, once its truth is known to be what was scored.

    Args:
        dataset: As opened.
        record: Its tiles are in the order of the matrices.
        matrices: Scenario -> (T, K, K) of the record's own label policy.
        predictions: Of the record.
        tile_id: The tile.

    Raises:
        DataError: If files cannot be read, or hold other labels than were scored.
    """
    size = dataset.size(tile_id)
    counted = next(iter(matrices.values()))[record.tiles.index(tile_id)].sum(1)
    if predictions.windows[tile_id] != central_window(size) or not np.array_equal(
        _truth_counts(dataset, tile_id, size), counted
    ):
        raise DataError(f"tile {tile_id} is not the one that record {record.id} was scored on")
    return read_view(dataset, predictions, tile_id, TEST_LABELS)


def _truth_counts(dataset: Dataset, tile_id: str, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return how many pixels of a tile belong to each class, (K,)."""
    counts = np.zeros(256, dtype=np.int64)
    for band in row_bands(size, _BAND_ROWS):
        target = dataset.read(tile_id, band, labels=TEST_LABELS).target
        counts += np.bincount(target.reshape(-1), minlength=256)
    return counts[: dataset.num_classes]
