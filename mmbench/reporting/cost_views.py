"""What the records say of cost: parameters, work and time, and which methods give most for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.notes import caveats, mark_notes, spread_notes
from mmbench.reporting.rows import MEAN, METRIC_NAMES, Row
from mmbench.reporting.table_model import MISSING, Cell, Figure, Table
from mmbench.reporting.views import origin_lines, row_name, score

_Column = tuple[str, Callable[[Row], Cell]]
PARETO = "●"
"""Marks a row that no other beats in score at no more cost, or in cost at no lower score."""


def record_cost_view(boards: Sequence[Leaderboard]) -> list[Table]:
    """Return a table a board: what a method weighs, computes and took to train, from its records."""
    return [_cost_table(board) for board in boards]


def tradeoff_view(boards: Sequence[Leaderboard]) -> list[Table]:
    """Return a table a board: mean score against cost, cheapest first, Pareto-optimal rows marked."""
    return [_tradeoff_table(board) for board in boards]


def pareto_optimal(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Say of each point whether no other costs no more and scores no less, and is better in one of both.

    Args:
        points: (cost, score) each.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    optimal = [False] * len(points)
    best: tuple[float, float] | None = None
    for i in order:
        # Equal points are all optimal; of equal cost only the best score is.
        if best is None or points[i][1] > best[1] or points[i] == best:
            optimal[i], best = True, points[i]
    return optimal


def _cost_table(board: Leaderboard) -> Table:
    """Return the columns of which some row has a value."""
    rows = board.all_rows
    columns = [column for column in _COLUMNS if any(column[1](row) != MISSING for row in rows)]

    def cells(row: Row) -> tuple[Cell, ...]:
        return (row_name(row), score(board, row, MEAN), *(show(row) for _, show in columns))

    devices = "; ".join(sorted({row.device for row in rows}))
    profiles = [row.profile for row in rows if row.profile]
    notes = [
        *(
            [
                f"Work of a forward over one window, {_different(profiles, 'window')} pixels a side, "
                f"{_different(profiles, 'precision')}; from the cheapest to the dearest scenario. "
                "FLOP: 2 for a multiply-accumulate."
            ]
            if profiles
            else ["No record holds the work of a forward; records of this version do: run the cells again."]
        ),
        *([f"Training time on {devices}."] if devices else []),
        *mark_notes(rows),
        *spread_notes(rows),
        *caveats(board),
    ]
    headers = ("method", f"mean {METRIC_NAMES[board.metric]}", *(name for name, _ in columns))
    return Table(
        f"Cost beside {board.title}",
        headers,
        tuple(map(cells, board.rows)),
        tuple(notes),
        below=tuple(map(cells, board.incomplete)),
        groups=board.group_note,
        origin=origin_lines([board]),
    )


def _different(profiles: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return the values of a key in some profiles, each once."""
    return " or ".join(sorted({str(profile.get(key, "unknown")) for profile in profiles}))


def _range_of(key: str, unit: float, decimals: int) -> Callable[[Row], Cell]:
    """Return a column with the least and the most over the scenarios."""

    def show(row: Row) -> Cell:
        cases = (row.profile or {}).get("inference", {}).values()
        values = [case[key] / unit for case in cases if case.get(key) is not None]
        if not values:
            return MISSING
        if min(values) == max(values):
            return Figure(values[0], decimals=decimals)
        return f"{min(values):.{decimals}f} – {max(values):.{decimals}f}"

    return show


def _at_inference(row: Row) -> Cell:
    """Return the parameters that a forward uses."""
    count = (row.profile or {}).get("parameters_inference")
    return MISSING if count is None else Figure(count / 1e6, decimals=2)


_COLUMNS: tuple[_Column, ...] = (
    ("params (M)", lambda row: Figure(row.parameters / 1e6, decimals=2)),
    ("at inference (M)", _at_inference),
    ("GFLOP", _range_of("flops", 1e9, 1)),
    ("moved (MiB)", _range_of("bytes", 2.0**20, 0)),
    ("launches", _range_of("launches", 1.0, 0)),
    ("train (s)", lambda row: Figure(row.seconds, decimals=0)),
    ("trials (s)", lambda row: Figure(row.trial_seconds, decimals=0) if row.trial_seconds else MISSING),
)
"""Heading -> cell of a row."""


def _tradeoff_table(board: Leaderboard) -> Table:
    """Return rows by what they cost: FLOP where the records of all hold them, else parameters."""
    by_flops = bool(board.rows) and all(row.flops is not None for row in board.rows)
    priced = [(_price(row, by_flops), row) for row in board.rows if MEAN in row.figures]
    priced.sort(key=lambda pair: (pair[0], -pair[1].figures[MEAN].mean))
    optimal = pareto_optimal([(cost, row.figures[MEAN].mean) for cost, row in priced])
    marked = {row.label for (_, row), best in zip(priced, optimal, strict=True) if best}
    unpriced = [row for row in board.rows if MEAN not in row.figures]

    def cells(row: Row) -> tuple[Cell, ...]:
        return (
            row_name(row),
            *([Figure(_price(row, True) / 1e9)] if by_flops and row.flops is not None else []),
            *([MISSING] if by_flops and row.flops is None else []),
            Figure(row.parameters / 1e6, decimals=2),
            score(board, row, "full"),
            score(board, row, MEAN),
            PARETO if row.label in marked else "",
        )

    cost = "GFLOP with all modalities" if by_flops else "parameters, as not all records hold FLOP"
    metric = METRIC_NAMES[board.metric]
    notes = [
        f"{PARETO}: no other row has a higher mean at no more cost or the same at less (cost: {cost}; means "
        "as printed, whatever the spread).",
        *mark_notes(board.all_rows),
        *spread_notes(board.all_rows),
        *caveats(board),
    ]
    headers = (
        "method",
        *(["GFLOP"] if by_flops else []),
        "params (M)",
        f"{metric} full",
        f"mean {metric}",
        "Pareto",
    )
    return Table(
        f"Accuracy against cost, {board.title}",
        headers,
        tuple(cells(row) for row in (*(row for _, row in priced), *unpriced)),
        tuple(notes),
        below=tuple(map(cells, board.incomplete)),
        groups=board.group_note,
        origin=origin_lines([board]),
    )


def _price(row: Row, by_flops: bool) -> float:
    """Return what a row is taken to cost."""
    return float((row.flops if by_flops else row.parameters) or 0)
