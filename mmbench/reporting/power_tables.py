"""What a table can resolve, in a sentence, as a table and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from mmbench.reporting.estimate_words import estimate_json, in_points, interval_words, points
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.power import BoardPower, PairPower
from mmbench.reporting.rows import METRIC_NAMES
from mmbench.reporting.table_model import MISSING, Table
from mmbench.reporting.tile_ranks import rank_json, rank_table
from mmbench.statistics import LEVEL

SCHEMA_VERSION = 1


def floor_words(found: BoardPower) -> str:
    """Say in one sentence what a table resolves."""
    floors = found.floors
    if not floors:
        return "No pair has a spread: what could be resolved is not known."
    middle, least, most = (in_points(f, 2) for f in (statistics.median(floors), floors[0], floors[-1]))
    return (
        f"Resolution floor, {found.column}: {middle} points in the median of {len(floors)} pairs "
        f"({least} to {most}), found with {found.power * 100:g} % power at level {found.alpha:g} of one "
        f"pair; from {found.basis}."
    )


def power_tables(board: Leaderboard, found: BoardPower) -> list[Table]:
    """Return the floor of every pair beside its difference, then the ranks of the rows over tiles.

    Args:
        board: Whose rows.
        found: What they resolve.
    """
    return [_pair_table(board, found), *([rank_table(found.ranks)] if found.ranks else [])]


def _pair_table(board: Leaderboard, found: BoardPower) -> Table:
    """Return the floor of every pair beside its difference."""
    return Table(
        title=f"What can be resolved: {METRIC_NAMES[board.metric]} (%), {found.column}, {board.conditions}",
        headers=("A", "B", "A - B", f"{LEVEL * 100:g} % interval", "floor", "seeds needed", "tiles needed"),
        rows=tuple(
            (
                pair.first,
                pair.second,
                in_points(pair.difference.value, 2, sign=True),
                interval_words(pair.difference),
                in_points(pair.floor, 2),
                *_needed_words(pair),
            )
            for pair in found.pairs
        ),
        notes=(
            "floor: the smallest difference that would be found.",
            "seeds needed: to find a difference as large as this one, on the same tiles; tiles needed: with "
            "the same seeds. enough: what there is. none: no number of them alone. Both are rough, as these "
            "seeds and tiles are all there is to know the spread from.",
            *_incomplete(board),
        ),
    )


def power_json(board: Leaderboard, found: BoardPower) -> dict[str, Any]:
    """Return the same as numbers; differences and floors in points.

    Args:
        board: Whose rows.
        found: What they resolve.
    """
    floors = found.floors
    return {
        "schema_version": SCHEMA_VERSION,
        "conditions": board.conditions,
        "metric": board.metric,
        "column": found.column,
        "alpha": found.alpha,
        "power": found.power,
        "basis": found.basis,
        "records": list(board.records),
        "floor": {
            "median": points(statistics.median(floors)) if floors else None,
            "least": points(floors[0]) if floors else None,
            "most": points(floors[-1]) if floors else None,
        },
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "difference": estimate_json(pair.difference),
                "floor": points(pair.floor),
                "resolved": pair.is_resolved,
                "seeds_needed": pair.needed.seeds if pair.needed else None,
                "tiles_needed": pair.needed.tiles if pair.needed else None,
            }
            for pair in found.pairs
        ],
        "ranks": rank_json(found.ranks) if found.ranks else None,
    }


def _needed_words(pair: PairPower) -> Sequence[str]:
    """Return how many seeds and tiles a pair needs."""
    if pair.is_resolved:
        return ("enough", "enough")
    if pair.needed is None:
        return (MISSING, MISSING)
    return ["none" if number is None else str(number) for number in (pair.needed.seeds, pair.needed.tiles)]


def _incomplete(board: Leaderboard) -> list[str]:
    """Name the rows that were left out."""
    if not board.incomplete:
        return []
    words = "; ".join(f"{row.label}: {', '.join(row.lacks)}" for row in board.incomplete)
    return [f"Left out, because incomplete: {words}."]
