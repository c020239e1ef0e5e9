"""How the rows of a table rank tile by tile, with Friedman's test where there are enough tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbench.metrics import Metric
from mmbench.reporting.estimate_words import p_words
from mmbench.reporting.matrices import ScoreBoard
from mmbench.reporting.table_model import Table
from mmbench.statistics import RankComparison, column_scorer, compare_ranks


@dataclass(frozen=True)
class TileRanks:
    """Rows ranked within every tile, by the tile's score by itself, mean over seeds.

    Attributes:
        column: What was scored.
        labels: Of the rows.
        found: Their ranks, in the same order.
    """

    column: str
    labels: tuple[str, ...]
    found: RankComparison

    @property
    def test_words(self) -> str:
        """What the tests say, or why there are none."""
        if self.found.reason:
            return f"Not tested: {self.found.reason}."
        return (
            f"Friedman p {p_words(self.found.p_value)}; average ranks differ where they are "
            f"{self.found.critical_distance:.2f} apart (Nemenyi, level 0.05)."
        )


def rank_tiles(matrices: ScoreBoard, labels: Sequence[str], metric: Metric, column: str) -> TileRanks | None:
    """Rank rows within the tiles in which every row has a score; None if there is no such tile.

    Args:
        matrices: Hold the rows.
        labels: Of the rows.
        metric: What is scored.
        column: One of `matrices.columns`.
    """
    score = column_scorer(metric, matrices.scored_classes)
    number = matrices.columns.index(column)
    scores = np.stack([matrices.method(label).tile_scores(score)[:, number] for label in labels], axis=1)
    defined = scores[np.isfinite(scores).all(axis=1)]
    return TileRanks(column, tuple(labels), compare_ranks(defined)) if len(defined) else None


def rank_table(ranks: TileRanks) -> Table:
    """Return the average ranks, best first."""
    average = ranks.found.average_ranks
    return Table(
        title=f"Ranks over {ranks.found.num_blocks} tiles, {ranks.column}",
        headers=("method", "average rank"),
        rows=tuple((ranks.labels[row], f"{average[row]:.2f}") for row in np.argsort(average, kind="stable")),
        notes=(f"1 is best. {ranks.test_words} A tile counts as much as any other here, whatever its size.",),
    )


def rank_json(ranks: TileRanks) -> dict[str, Any]:
    """Return the same as numbers."""
    return {
        "tiles": ranks.found.num_blocks,
        "average_ranks": dict(zip(ranks.labels, map(float, ranks.found.average_ranks), strict=True)),
        "friedman_chi_square": ranks.found.chi_square,
        "friedman_p_value": ranks.found.p_value,
        "nemenyi_distance": ranks.found.critical_distance,
        "not_tested": ranks.found.reason,
    }
