"""What of the records a table shows: scenarios, classes, summaries, subsets or regimes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from mmbench.errors import InvalidRecipeError
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.notes import (
    HIDDEN,
    INCOMPLETE,
    NOTED,
    any_flops,
    caveats,
    leaderboard_notes,
    mark_notes,
    spread_notes,
)
from mmbench.reporting.robustness import MISSING_RATES, robustness
from mmbench.reporting.rows import CLASS_METRIC_NAMES, CLASS_METRIC_OF, MEAN, METRIC_NAMES, WORST, Row
from mmbench.reporting.table_model import MISSING, Cell, Figure, RowName, Standing, Table
from mmbench.statistics import Summary, summarise

View = Callable[[Sequence[Leaderboard]], list[Table]]

_STANDINGS: dict[int, Standing] = {1: "top", 2: "second"}
_IDS_A_LINE = 6


def row_name(row: Row) -> RowName:
    """Return a row's name with the signs of its notes."""
    return RowName(
        row.method or row.label,
        row.set_options,
        f" {HIDDEN}" * row.sees_hidden + f" {NOTED}" * bool(row.note),
    )


def score(board: Leaderboard, row: Row, column: str) -> Cell:
    """Return one score of a row with its standing in the column, or a dash."""
    standing = _STANDINGS.get(board.standings.get(column, {}).get(row.label, 0), "")
    return summary_cell(row.figures.get(column), standing)


def summary_cell(summary: Summary | None, standing: Standing = "") -> Cell:
    """Return a summary over seeds as a cell."""
    return MISSING if summary is None else Figure(summary.mean, summary.deviation, standing=standing)


def origin_lines(boards: Sequence[Leaderboard]) -> tuple[str, ...]:
    """Return the ids of the records behind some boards, a few a line."""
    ids = [record for board in boards for record in board.records]
    parts = [" ".join(ids[at : at + _IDS_A_LINE]) for at in range(0, len(ids), _IDS_A_LINE)]
    return tuple(f"records: {part}" for part in parts)


def leaderboard_table(board: Leaderboard) -> Table:
    """Return a leaderboard's rows, scores by scenario first, then what they cost in training."""
    columns = (*board.scenarios, MEAN, WORST)
    flops = any_flops(board)

    def cells(row: Row) -> tuple[Cell, ...]:
        return (
            row_name(row),
            *(score(board, row, name) for name in columns),
            Figure(row.parameters / 1e6, decimals=2),
            *([MISSING if row.flops is None else Figure(row.flops / 1e9)] if flops else []),
            Figure(row.seconds, decimals=0),
            *([Figure(row.trial_seconds, decimals=0)] if board.search else []),
            str(len(row.seeds)),
        )

    trials = ["trials (s)"] if board.search else []
    headers = ("method", *columns, "params (M)", *(["GFLOP"] if flops else []), "train (s)", *trials, "seeds")
    return _table(board, board.title, headers, cells, leaderboard_notes(board))


def scenario_view(boards: Sequence[Leaderboard]) -> list[Table]:
    """Return a table a board: scores by scenario."""
    return [leaderboard_table(board) for board in boards]


def summary_view(boards: Sequence[Leaderboard]) -> list[Table]:
    """Return a table a board: what one number says of all scenarios."""
    return [_summary_table(board) for board in boards]


def _summary_table(board: Leaderboard) -> Table:
    """Return mean, worst, expected score, retained share and drop of each row."""
    rates = [f"E({rate:g})" for rate in MISSING_RATES]
    headers = ("method", "full", MEAN, WORST, *rates, "retained (%)", "drop", "seeds")

    def cells(row: Row) -> tuple[Cell, ...]:
        found = robustness(row, board.metric, board.modalities) if not row.lacks else None
        values: tuple[Summary | None, ...] = (None,) * (len(rates) + 2)
        if found is not None:
            values = (*found.expected, found.retained, found.drop)
        return (
            row_name(row),
            *(score(board, row, name) for name in ("full", MEAN, WORST)),
            *(summary_cell(value) for value in values),
            str(len(row.seeds)),
        )

    notes = [
        "mean and worst: over all scenarios. E(p): expected score where each modality is missing with "
        "probability p, independently, never all.",
        "retained: mean score with a modality missing, in % of that with all; drop: their difference.",
        *mark_notes(board.all_rows),
        *spread_notes(board.all_rows),
        *caveats(board),
    ]
    return _table(board, f"Robustness, {board.title}", headers, cells, notes)


def class_view(boards: Sequence[Leaderboard]) -> list[Table]:
    """Return a table for each board and scenario: scores by class.

    Raises:
        InvalidRecipeError: If the metric is not one of classes.
    """
    return [_class_table(board, scenario) for board in boards for scenario in board.scenarios]


def _class_table(board: Leaderboard, scenario: str) -> Table:
    """Return the scores of each class under one scenario."""
    if board.metric not in CLASS_METRIC_OF:
        raise InvalidRecipeError(
            f"--metric {board.metric!r} has no values by class; with --view class expected one of "
            f"{', '.join(CLASS_METRIC_OF)}"
        )
    key = CLASS_METRIC_OF[board.metric]
    headers = [
        name if number in board.scored_classes else f"({name})" for number, name in enumerate(board.classes)
    ]

    def of_class(row: Row, number: int) -> Cell:
        found = [r.scenarios[scenario][key] for r in row.results if scenario in r.scenarios]
        values = [v[number] * 100 for v in found if number < len(v) and v[number] is not None]
        return summary_cell(summarise(values)) if values else MISSING

    def cells(row: Row) -> tuple[Cell, ...]:
        by_class = (of_class(row, number) for number in range(len(board.classes)))
        return (row_name(row), *by_class, score(board, row, scenario), str(len(row.seeds)))

    unscored = len(board.scored_classes) < len(board.classes)
    notes = [
        *(["(class): not in the mean; pixels predicted as it count as errors."] if unscored else []),
        *mark_notes(board.all_rows),
        *spread_notes(board.all_rows),
        *caveats(board),
    ]
    title = f"{CLASS_METRIC_NAMES[key]} (%) by class, scenario {scenario}, {board.conditions}"
    return _table(board, title, ("method", *headers, METRIC_NAMES[board.metric], "seeds"), cells, notes)


def subset_view(boards: Sequence[Leaderboard]) -> list[Table]:
    """Return a table a board: a row for every subset of the modalities, a column a method."""
    return [_subset_table(board) for board in boards]


def _subset_table(board: Leaderboard) -> Table:
    """Return the scores of all methods under every subset, and their mean and worst."""
    times = Counter(row.method for row in board.all_rows)
    names = [row.method if times[row.method] == 1 else row.label for row in board.all_rows]
    marks = [f" {INCOMPLETE}" * bool(row.lacks) for row in board.all_rows]

    def cells(name: str) -> tuple[Cell, ...]:
        parts = board.modalities if name == "full" else name.split("+")
        dots = ["" if name in (MEAN, WORST) else "●" if m in parts else "○" for m in board.modalities]
        return (name, *dots, *(_mean_alone(score(board, row, name)) for row in board.all_rows))

    options = "; ".join(f"{row.method}: {row.set_options}" for row in board.all_rows if row.set_options)
    notes = [
        "●: present, ○: missing. Means over seeds; their deviations stand in the table by scenario.",
        *([f"Options: {options}."] if options else []),
        *([f"{INCOMPLETE}: not compared."] if board.incomplete else []),
        *caveats(board),
    ]
    return Table(
        f"All subsets, {board.title}",
        ("subset", *board.modalities, *(name + mark for name, mark in zip(names, marks, strict=True))),
        tuple(cells(name) for name in (*board.scenarios, MEAN, WORST)),
        tuple(notes),
        groups=board.group_note,
        origin=origin_lines([board]),
    )


def _mean_alone(cell: Cell) -> Cell:
    """Return a score without its deviation: a column a method leaves no room for it on a page."""
    return replace(cell, deviation=None) if isinstance(cell, Figure) else cell


def _table(
    board: Leaderboard,
    title: str,
    headers: Sequence[str],
    cells: Callable[[Row], tuple[Cell, ...]],
    notes: Sequence[str],
) -> Table:
    """Return a table with a row a method, incomplete ones below."""
    return Table(
        title,
        tuple(headers),
        tuple(map(cells, board.rows)),
        tuple(notes),
        below=tuple(map(cells, board.incomplete)),
        groups=board.group_note,
        origin=origin_lines([board]),
    )
