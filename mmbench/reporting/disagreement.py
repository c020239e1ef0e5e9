"""On how many pixels two methods predict different classes, counted in the windows that runs store.

Axes: T tiles, C scenarios, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import DataError
from mmbench.predictions import Predictions
from mmbench.records import Record, predictions_path, read_predictions
from mmbench.reporting.rows import WORST, label_of

RecordPair = tuple[Record, Record]
"""A record of each method, of one seed."""


@dataclass(frozen=True)
class Disagreement:
    """How often two methods differ, over the seeds that both have.

    Attributes:
        tiles: T ids.
        scenarios: C names.
        differing: (T, C) int64 pixels of the stored windows on which the two differ, over all seeds.
        pixels: (T,) int64 pixels that were looked at in each scenario, over all seeds.
    """

    tiles: tuple[str, ...]
    scenarios: tuple[str, ...]
    differing: NDArray[np.int64]
    pixels: NDArray[np.int64]

    def share(self, column: str, tile: str | None = None) -> float | None:
        """Return the share of pixels on which the two differ, in [0, 1].

        Args:
            column: A scenario, "mean" for all of them, or "worst", of which it is not defined.
            tile: Of this one; None is all of them.
        """
        if column == WORST:
            return None
        scenarios = [self.scenarios.index(column)] if column in self.scenarios else range(len(self.scenarios))
        tiles = range(len(self.tiles)) if tile is None else [self.tiles.index(tile)]
        chosen = self.differing[np.ix_(tiles, scenarios)]
        return float(chosen.sum() / (self.pixels[tiles].sum() * len(scenarios)))


def find_disagreement(results: Path, pairs: Sequence[RecordPair]) -> Disagreement:
    """Compare the stored predictions of two methods pixel by pixel.

    Args:
        results: Folder of the records.
        pairs: Of every seed that both methods have; all of the same tiles and scenarios.

    Raises:
        DataError: If a record holds no predictions, they are damaged, or two are of different windows.
    """
    first = pairs[0][0]
    tiles, scenarios = tuple(first.tiles), tuple(first.scenarios)
    differing = np.zeros((len(tiles), len(scenarios)), dtype=np.int64)
    pixels = np.zeros(len(tiles), dtype=np.int64)
    for one, other in read_pairs(results, pairs):
        for t, tile in enumerate(tiles):
            pixels[t] += one.windows[tile].height * one.windows[tile].width
            for c, scenario in enumerate(scenarios):
                differs = one.classes[tile, scenario] != other.classes[tile, scenario]
                differing[t, c] += np.count_nonzero(differs)
    return Disagreement(tiles, scenarios, differing, pixels)


def read_pairs(results: Path, pairs: Sequence[RecordPair]) -> Iterator[tuple[Predictions, Predictions]]:
    """Yield the predictions of pairs of records, one pair after the other.

    Args:
        results: Folder of the records.
        pairs: To read.

    Raises:
        DataError: If a record holds none, they are damaged, or two are of different windows.
    """
    for pair in pairs:  # that a file is missing is known before the first is read
        for record in pair:
            _require_stored(results, record)
    for pair in pairs:
        one, other = (read_predictions(results, record) for record in pair)
        moved = [tile for tile, window in one.windows.items() if other.windows[tile] != window]
        if moved:
            ids = " and ".join(record.id for record in pair)
            raise DataError(
                f"records {ids} hold predictions of different windows of tile {moved[0]}; expected the same, "
                "as the same version stores them. Run both cells again with --rerun"
            )
        yield one, other


def _require_stored(results: Path, record: Record) -> None:
    """Refuse a record without predictions."""
    path = predictions_path(results, record.id)
    if not path.is_file():
        raise DataError(
            f"record {record.id} ({label_of(record)}, seed {record.identity['seed']}) holds no predictions: "
            f"{path} is missing. A run of this version stores them: run the cell again with --rerun"
        )
