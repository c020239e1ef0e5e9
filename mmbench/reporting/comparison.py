"""Two methods held against each other: by how much they differ, how sure that is, on which classes and tiles.

Axes: S seeds, T tiles, C scenarios, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import DataError
from mmbench.metrics import METRICS, ClassMetric, Metric
from mmbench.reporting.matrices import MethodMatrices, ScoreBoard
from mmbench.reporting.rows import CLASS_METRIC_OF, WORST
from mmbench.statistics import (
    DEFAULT_DRAWS,
    Estimate,
    SwapTest,
    class_scorer,
    column_scorer,
    estimates,
    resample,
    swap_tiles,
    tile_contributions,
)

CLASS_METRICS: dict[Metric, ClassMetric] = {metric: CLASS_METRIC_OF.get(metric, "iou") for metric in METRICS}
"""By which classes are held against each other."""


@dataclass(frozen=True)
class ColumnDifference:
    """Two methods in one column of a table; scores in [0, 1], None where undefined.

    Attributes:
        column: A scenario, "mean" or "worst".
        first: Score of the first method, mean over seeds.
        second: Likewise.
        difference: First minus second, with seeds and tiles resampled.
        swap_p_value: Of the test that swaps tiles.
        tiles: For how many tiles the first is ahead, and the second, by what the tile contributes.
        seeds: For how many seeds the first is ahead, and the second.
        apart: Share of pixels on which the two predict different classes, at least; None for "worst".
    """

    column: str
    first: float | None
    second: float | None
    difference: Estimate | None
    swap_p_value: float | None
    tiles: tuple[int, int]
    seeds: tuple[int, int]
    apart: float | None


@dataclass(frozen=True)
class ClassDifference:
    """Two methods on one class.

    Attributes:
        name: Of the class.
        scored: Whether it is in the means.
        first: IoU or F1 of the first method, mean over seeds.
        second: Likewise.
        difference: First minus second.
    """

    name: str
    scored: bool
    first: float | None
    second: float | None
    difference: Estimate | None


@dataclass(frozen=True)
class TileDifference:
    """Two methods on one tile.

    Attributes:
        name: Of the tile.
        pixels: That were scored.
        first: Score of the first method on this tile alone, mean over seeds.
        second: Likewise.
        contribution: What the tile gives to the difference of the whole split; see `tile_contributions`.
        apart: Share of pixels on which the two predict different classes, at least; None for "worst".
    """

    name: str
    pixels: int
    first: float | None
    second: float | None
    contribution: float | None
    apart: float | None


@dataclass(frozen=True)
class Comparison:
    """Two methods, seed by seed and tile by tile.

    Attributes:
        first: Label of the one.
        second: Label of the other.
        metric: What is scored.
        seeds: That both have.
        left_out: "label seed n" of seeds that only one has.
        column: To which classes and tiles belong.
        columns: Scenarios, "mean", "worst".
        classes: As the dataset orders them.
        tiles: What contributes most to the first method first.
        exact: Whether all swaps of tiles were tried.
        smallest_p_value: That the test over tiles can give.
    """

    first: str
    second: str
    metric: Metric
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    column: str
    columns: tuple[ColumnDifference, ...]
    classes: tuple[ClassDifference, ...]
    tiles: tuple[TileDifference, ...]
    exact: bool
    smallest_p_value: float

    @property
    def chosen(self) -> ColumnDifference:
        """The column to which classes and tiles belong."""
        return next(found for found in self.columns if found.column == self.column)


def compare(
    board: ScoreBoard, first: str, second: str, metric: Metric, column: str, draws: int = DEFAULT_DRAWS
) -> Comparison:
    """Hold two methods against each other on the seeds that both have.

    Args:
        board: Holds both.
        first: Label of the one.
        second: Label of the other.
        metric: What is scored.
        column: One of `board.columns`: to which classes and tiles belong.
        draws: Of seeds and tiles, and of swaps where not all are tried.

    Raises:
        DataError: If they have no seed in common.
    """
    methods = (board.method(first), board.method(second))
    seeds = tuple(sorted(set(methods[0].seeds) & set(methods[1].seeds)))
    if not seeds:
        raise DataError(
            f"{first!r} has the seeds {methods[0].seeds}, {second!r} {methods[1].seeds}; expected one in "
            "common. Run both with the same --seeds"
        )
    one, other = (method.of_seeds(seeds) for method in methods)
    score = column_scorer(metric, board.scored_classes)
    swapped = swap_tiles(one.counts, other.counts, score, draws=draws)
    contributions = tile_contributions(one.counts, other.counts, score)
    number = board.columns.index(column)
    return Comparison(
        first=first,
        second=second,
        metric=metric,
        seeds=seeds,
        left_out=tuple(f"{m.label} seed {seed}" for m in methods for seed in m.seeds if seed not in seeds),
        column=column,
        columns=_columns(board, one, other, metric, swapped, contributions, draws),
        classes=_classes(board, one, other, CLASS_METRICS[metric], number, draws),
        tiles=_tiles(board, one, other, metric, number, contributions[:, number]),
        exact=swapped.exact,
        smallest_p_value=swapped.smallest,
    )


def _columns(
    board: ScoreBoard,
    one: MethodMatrices,
    other: MethodMatrices,
    metric: Metric,
    swapped: SwapTest,
    contributions: NDArray[np.float64],
    draws: int,
) -> tuple[ColumnDifference, ...]:
    """Hold the two against each other in every column."""
    score = column_scorer(metric, board.scored_classes)
    drawn = [resample(method.counts, method.seeds, score, draws=draws) for method in (one, other)]
    by_seed = score(one.counts.sum(1)) - score(other.counts.sum(1))  # (S, X)
    differences = estimates(drawn[0] - drawn[1])
    return tuple(
        ColumnDifference(
            column=name,
            first=_defined(drawn[0].estimate[x]),
            second=_defined(drawn[1].estimate[x]),
            difference=differences[x],
            swap_p_value=_defined(swapped.p_values[x]),
            tiles=_ahead(contributions[:, x]),
            seeds=_ahead(by_seed[:, x]),
            apart=_apart(board, one, other, name),
        )
        for x, name in enumerate(board.columns)
    )


def _classes(
    board: ScoreBoard,
    one: MethodMatrices,
    other: MethodMatrices,
    metric: ClassMetric,
    column: int,
    draws: int,
) -> tuple[ClassDifference, ...]:
    """Hold the two against each other on every class."""
    score = class_scorer(metric, column, len(board.scenarios))
    drawn = [resample(method.counts, method.seeds, score, draws=draws) for method in (one, other)]
    differences = estimates(drawn[0] - drawn[1])
    return tuple(
        ClassDifference(
            name=name,
            scored=number in board.scored_classes,
            first=_defined(drawn[0].estimate[number]),
            second=_defined(drawn[1].estimate[number]),
            difference=differences[number],
        )
        for number, name in enumerate(board.classes)
    )


def _tiles(
    board: ScoreBoard,
    one: MethodMatrices,
    other: MethodMatrices,
    metric: Metric,
    column: int,
    contributions: NDArray[np.float64],
) -> tuple[TileDifference, ...]:
    """Hold the two against each other on every tile, what speaks most for the first one first."""
    score = column_scorer(metric, board.scored_classes)
    firsts, seconds = (method.tile_scores(score)[:, column] for method in (one, other))
    found = [
        TileDifference(
            name=name,
            pixels=int(one.matrices[0, tile, 0].sum()),
            first=_defined(firsts[tile]),
            second=_defined(seconds[tile]),
            contribution=_defined(contributions[tile]),
            apart=_apart(board, one, other, board.columns[column], [tile]),
        )
        for tile, name in enumerate(board.tiles)
    ]
    return tuple(sorted(found, key=lambda tile: -(tile.contribution or 0.0)))


def _apart(
    board: ScoreBoard,
    one: MethodMatrices,
    other: MethodMatrices,
    column: str,
    tiles: Sequence[int] | None = None,
) -> float | None:
    """Return the least share of pixels on which two methods of one seed must predict different classes.

    Matrices do not say on which pixels. But where of a class's pixels the one predicts more as some class
    than the other does, at least that many differ.
    """
    if column == WORST:
        return None
    chosen = (
        [board.scenarios.index(column)] if column in board.scenarios else list(range(len(board.scenarios)))
    )
    some = list(range(len(board.tiles))) if tiles is None else list(tiles)
    pair = [method.matrices[:, some][:, :, chosen] for method in (one, other)]
    pixels = int(pair[0].sum())
    # A pixel that moves is missing in one class and too many in another.
    return float(np.abs(pair[0] - pair[1]).sum()) / 2 / pixels if pixels else None


def _ahead(differences: NDArray[np.float64]) -> tuple[int, int]:
    """Return how many differences speak for the first method, and for the second."""
    return int((differences > 0).sum()), int((differences < 0).sum())


def _defined(value: float) -> float | None:
    """Return a number, None for NaN."""
    return None if np.isnan(value) else float(value)
