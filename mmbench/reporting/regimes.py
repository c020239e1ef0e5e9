"""Scores by what training hid, the protocol's patterns or those of each paper; never in one column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.notes import INCOMPLETE, caveats, mark_notes, spread_notes
from mmbench.reporting.rows import MEAN, METRIC_NAMES, WORST, Row
from mmbench.reporting.table_model import MISSING, Cell, RowName, Table
from mmbench.reporting.views import origin_lines, row_name, score

_REGIMES = {"protocol": "the protocol's patterns for all", "method": "the patterns of each method's paper"}


def regime_view(boards: Sequence[Leaderboard]) -> list[Table]:
    """Return a table for the boards that share data, labels and protocol, with columns for each recipe."""
    groups: dict[tuple[str, str], list[Leaderboard]] = {}
    for board in boards:
        groups.setdefault((board.data, board.labels), []).append(board)
    return [_regime_table(sorted(group, key=_order)) for group in groups.values()]


def _order(board: Leaderboard) -> tuple[bool, bool, str]:
    """Sort the protocol's regime first, in it what is ranked."""
    return board.patterns != "protocol", not board.ranked, board.recipe


def _regime_table(boards: Sequence[Leaderboard]) -> Table:
    """Return mean and worst of each method under each recipe."""
    first = boards[0]
    several = _with_several_options(boards)
    keys = dict.fromkeys(_key(row, several) for board in boards for row in board.all_rows)
    rows = tuple(_line(boards, key, several) for key in keys)
    headers = [f"{board.recipe}{_mark(board)}: {column}" for board in boards for column in (MEAN, WORST)]
    all_rows = [row for board in boards for row in board.all_rows]
    incomplete = any(board.incomplete for board in boards)
    words = "; ".join(f"{board.recipe}: {_REGIMES.get(board.patterns, board.patterns)}" for board in boards)
    notes = [
        f"What training hid: {words}.",
        "Compare methods down a column; along a row the recipes may differ in more than what is hidden.",
        *([f"{INCOMPLETE}: lacks a seed or a scenario, not compared."] if incomplete else []),
        *mark_notes(all_rows),
        *spread_notes(all_rows),
        *dict.fromkeys(note for board in boards for note in caveats(board)),
    ]
    return Table(
        f"{METRIC_NAMES[first.metric]} (%) by training regime on {first.dataset} "
        f"({' + '.join(first.modalities)}), split {first.split}, {first.labels} labels, "
        f"protocol {first.protocol}",
        ("method", *headers),
        rows,
        tuple(notes),
        groups=first.group_note,
        origin=origin_lines(boards),
    )


def _mark(board: Leaderboard) -> str:
    return " (own patterns)" if board.patterns == "method" else ""


def _with_several_options(boards: Sequence[Leaderboard]) -> set[str]:
    """Return the methods that one board holds with different options."""
    counts = [Counter(row.method for row in board.all_rows) for board in boards]
    return {method for count in counts for method, times in count.items() if times > 1}


def _key(row: Row, several: set[str]) -> str:
    """Return what names a row across boards: its method, or its label where that is not enough."""
    return row.label if row.method in several else row.method


def _line(boards: Sequence[Leaderboard], key: str, several: set[str]) -> tuple[Cell, ...]:
    """Return one method's cells."""
    cells: list[Cell] = []
    found: list[Row] = []
    for board in boards:
        row = next((r for r in board.all_rows if _key(r, several) == key), None)
        cells += [MISSING, MISSING] if row is None else _scores(board, row)
        found += [] if row is None else [row]
    marks = row_name(found[0]).marks
    same = {row.set_options for row in found}
    name = (
        RowName(found[0].method, found[0].set_options, marks) if len(same) == 1 else RowName(key, "", marks)
    )
    return (name, *cells)


def _scores(board: Leaderboard, row: Row) -> list[Cell]:
    """Return mean and worst, marked where the row is incomplete."""
    cells = [score(board, row, column) for column in (MEAN, WORST)]
    return [f"{cell} {INCOMPLETE}" for cell in cells] if row.lacks else cells
