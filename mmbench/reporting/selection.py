"""Which records a comparison is about: leaderboards by what was asked for, and rows by the words for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmbench.errors import DataError, InvalidRecipeError, UnknownNameError
from mmbench.metrics import Metric
from mmbench.records import Record
from mmbench.reporting.disagreement import RecordPair
from mmbench.reporting.leaderboard import Leaderboard, leaderboards
from mmbench.reporting.matrices import ScoreBoard, load_matrices
from mmbench.reporting.rows import Row
from mmbench.results.verification import read_for_tables


@dataclass(frozen=True)
class Selection:
    """The leaderboards of a folder that were asked for.

    Attributes:
        results: The folder.
        records: By their ids.
        boards: Grouped as in the report.
        policy: Label policy of the scores; None is that of the records.
    """

    results: Path
    records: dict[str, Record]
    boards: tuple[Leaderboard, ...]
    policy: str | None

    def matrices(self, rows: Sequence[Row]) -> ScoreBoard:
        """Read the matrices behind some rows of one board.

        Raises:
            DataError: As `load_matrices` does.
        """
        wanted = [self.records[result.record] for row in rows for result in row.results]
        return load_matrices(self.results, wanted, self.policy)

    def record_pairs(self, one: Row, other: Row) -> list[RecordPair]:
        """Return the records of two rows, seed by seed of those that both have."""
        firsts, seconds = ({r.seed: self.records[r.record] for r in row.results} for row in (one, other))
        return [(firsts[seed], seconds[seed]) for seed in sorted(firsts.keys() & seconds.keys())]

    def comparable_boards(self) -> list[Leaderboard]:
        """Return the boards that have rows to compare.

        Raises:
            DataError: If none has two complete rows.
        """
        found = [board for board in self.boards if len(board.rows) > 1]
        if not found:
            held = "; ".join(f"{len(board.rows)} {board.conditions}" for board in self.boards)
            raise DataError(
                f"no table in {self.results} has two complete rows ({held}); run more methods with the same "
                "recipe"
            )
        return found


def read_matching(
    results: Path, dataset: str | None, recipe: str | None, *, may_be_empty: bool = False
) -> list[Record]:
    """Read the records of a folder that were asked for.

    Args:
        results: The folder.
        dataset: Only of this one, or None.
        recipe: Only of this one, or None.
        may_be_empty: Whether there need not be any.

    Raises:
        DataError: If no record matches, or one of the folder is not what a run would have written.
    """
    found = [] if may_be_empty and not results.exists() else read_for_tables(results)
    records = [
        record
        for record in found
        if dataset in (None, record.identity["dataset"]["name"]) and recipe in (None, record.recipe_name)
    ]
    if not records and not may_be_empty:
        raise DataError(f"no records in {results} match; expected those of 'mmbench run --results {results}'")
    return records


def select(
    results: Path, metric: Metric, policy: str | None, dataset: str | None, recipe: str | None
) -> Selection:
    """Read and group the records of a folder.

    Args:
        results: The folder.
        metric: What is scored.
        policy: One of `rescoring.LABEL_POLICIES`, or None.
        dataset: Only this one, or None.
        recipe: Only this one, or None.

    Raises:
        DataError: If no record matches.
    """
    records = read_matching(results, dataset, recipe)
    boards = tuple(leaderboards(records, metric, policy))
    return Selection(results, {record.id: record for record in records}, boards, policy)


def find_pair(selection: Selection, first: str, second: str) -> tuple[Leaderboard, Row, Row]:
    """Return the one board that holds two rows, and the rows.

    Args:
        selection: Where to look.
        first: A row's label as the report prints it; the method's name alone where only one row has it.
        second: Of another row.

    Raises:
        UnknownNameError: If a name is no row's.
        InvalidRecipeError: If a name is that of several rows, both are the same, or several boards hold both.
        DataError: If no board holds both.
    """
    for name in (first, second):
        _require_known(selection, name)
    both = [board for board in selection.boards if all(_rows(board, name) for name in (first, second))]
    if not both:
        where = "; ".join(f"{name!r} in {_titles(selection, name)}" for name in (first, second))
        raise DataError(
            f"no table holds both: {where}. {_differences(selection, first, second)}"
            "Run both on the same data with the same recipe, then compare"
        )
    if len(both) > 1:
        raise InvalidRecipeError(
            f"{len(both)} tables hold {first!r} and {second!r}: {'; '.join(b.conditions for b in both)}. "
            "Choose one with --dataset and --recipe, or keep their records in folders of their own"
        )
    one, other = (_only(both[0], name) for name in (first, second))
    if one.label == other.label:
        raise InvalidRecipeError(f"{first!r} and {second!r} are the same row; expected two different ones")
    return both[0], one, other


def _rows(board: Leaderboard, name: str) -> list[Row]:
    """Return the rows of a board that a name may mean: the one of this label, else all of this method."""
    exact = [row for row in board.all_rows if row.label == name]
    return exact or [row for row in board.all_rows if row.method == name]


def _only(board: Leaderboard, name: str) -> Row:
    """Return the row that a name means."""
    rows = _rows(board, name)
    if len(rows) > 1:
        labels = ", ".join(repr(row.label) for row in rows)
        raise InvalidRecipeError(f"{name!r} may be {labels}; expected the whole name of one of them")
    return rows[0]


def _require_known(selection: Selection, name: str) -> None:
    """Refuse a name that is no row's in any board."""
    rows = [row for board in selection.boards for row in board.all_rows]
    known = {words for row in rows for words in (row.label, row.method)}
    if name not in known:
        raise UnknownNameError("row", name, known, hint=f"mmbench report {selection.results}")


def _titles(selection: Selection, name: str) -> str:
    """Return what the boards that hold a row measured."""
    return " and ".join(f"the one {board.conditions}" for board in selection.boards if _rows(board, name))


def _differences(selection: Selection, first: str, second: str) -> str:
    """Say what keeps two rows out of one table, where each is in one only."""
    rows = [[row for board in selection.boards for row in _rows(board, name)] for name in (first, second)]
    if any(len(found) > 1 for found in rows):
        return ""
    one, other = (selection.records[found[0].results[0].record] for found in rows)
    shared = ("dataset", "labels", "recipe", "precision", "protocol")
    apart = [key for key in shared if one.identity[key] != other.identity[key]]
    return f"Their records differ in {', '.join(apart)}. " if apart else ""


def check_column(columns: Sequence[str], name: str) -> None:
    """Refuse a name that is no scenario, nor "mean" or "worst".

    Raises:
        UnknownNameError: Naming those there are.
    """
    if name not in columns:
        raise UnknownNameError("scenario", name, columns, hint="a column of 'mmbench report'")
