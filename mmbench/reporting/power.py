"""What a table can resolve: for every pair of its rows, the smallest difference that would be found."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from mmbench.errors import DataError
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.matrices import ScoreBoard
from mmbench.reporting.tile_ranks import TileRanks, rank_tiles
from mmbench.statistics import (
    DEFAULT_DRAWS,
    Estimate,
    Needed,
    column_scorer,
    estimates,
    needed,
    resample,
    resolvable_difference,
)

_MOST_ROWS = 60
"""Pairs grow with the square of the rows, and nobody reads two thousand of them."""


@dataclass(frozen=True)
class PairPower:
    """Two rows of a table.

    Attributes:
        first: Label of the one that is ahead. second: Label of the other. difference: First minus second.
        floor: The smallest difference that would be found, in [0, 1]; None where there is no spread to tell
        it
            from, or the two are equal to the pixel.
        needed: What would resolve a difference as large as this one; None likewise, or where it is above the
        floor.
    """

    first: str
    second: str
    difference: Estimate
    floor: float | None
    needed: Needed | None

    @property
    def is_resolved(self) -> bool:
        """Whether a difference as large as this one would be found."""
        return self.floor is not None and abs(self.difference.value) >= self.floor


@dataclass(frozen=True)
class BoardPower:
    """A whole table.

    Attributes:
        column: What was scored.
        alpha: Level of the two-sided test of a pair.
        power: Chance to find the difference.
        basis: What was resampled, in words.
        pairs: Of complete rows, in their order.
        ranks: Of the same rows over tiles; None if no tile has a score of all.
    """

    column: str
    alpha: float
    power: float
    basis: str
    pairs: tuple[PairPower, ...]
    ranks: TileRanks | None

    @property
    def floors(self) -> list[float]:
        """The floors of all pairs that have one, rising."""
        return sorted(pair.floor for pair in self.pairs if pair.floor is not None)


def board_power(
    matrices: ScoreBoard,
    board: Leaderboard,
    column: str,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    draws: int = DEFAULT_DRAWS,
) -> BoardPower:
    """Find what every pair of complete rows can resolve.

    Args:
        matrices: Of the board's complete rows.
        board: Whose rows.
        column: One of `matrices.columns`.
        alpha: Level of the two-sided test of one pair.
        power: Chance to find a difference, above alpha.
        draws: Of seeds and tiles.

    Raises:
        DataError: If there are too many complete rows.
    """
    if len(board.rows) > _MOST_ROWS:
        raise DataError(
            f"{len(board.rows)} complete rows {board.conditions}; expected at most {_MOST_ROWS}. "
            "Choose records with --dataset and --recipe, or compare two methods with 'mmbench compare'"
        )
    score = column_scorer(board.metric, matrices.scored_classes)
    number = matrices.columns.index(column)
    drawn = {
        row.label: resample(method.counts, method.seeds, score, draws=draws)
        for row in board.rows
        for method in [matrices.method(row.label)]
    }
    pairs = []
    for one, other in combinations(drawn, 2):
        estimate = estimates(drawn[one] - drawn[other])[number]
        if estimate is not None:
            pairs.append(_pair(one, other, estimate, alpha, power))
    basis = pairs[0].difference.basis if pairs else ""
    ranks = rank_tiles(matrices, list(drawn), board.metric, column)
    return BoardPower(column, alpha, power, basis, tuple(pairs), ranks)


def _pair(one: str, other: str, estimate: Estimate, alpha: float, power: float) -> PairPower:
    """Return what one pair can resolve."""
    if not estimate.standard_error:
        return PairPower(one, other, estimate, None, None)
    floor = resolvable_difference(estimate, alpha, power)
    found = PairPower(one, other, estimate, floor, None)
    if found.is_resolved:
        return found
    return PairPower(one, other, estimate, floor, needed(estimate, estimate.value, alpha, power))
