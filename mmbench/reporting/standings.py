"""Which rows of a leaderboard are tied with the best of a column, tested on the stored matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import DataError
from mmbench.records import Record, record_path
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.matrices import ScoreBoard, load_matrices, reason_of
from mmbench.reporting.rows import Row, label_of
from mmbench.results.matrices import score_problems
from mmbench.results.verification import refusal
from mmbench.statistics import LEVEL, Estimate, column_scorer, estimates, holm, resample, tie_groups

_MOST_ROWS = 60
"""Pairs grow with the square of the rows; of more, the correction would leave nothing to tell apart."""
_ALPHA = round(1 - LEVEL, 6)


def with_standings(
    board: Leaderboard, results: Path, records: Sequence[Record], policy: str | None
) -> Leaderboard:
    """Return a leaderboard that says of each column which rows are tied with its best, and with the next.

    Rows that lack a seed or a scenario take no part. Where it cannot be tested the reason is in `untested`.
    On the way every recorded score is held against the matrices that are read.

    Args:
        board: Of these records.
        results: Folder of their matrices.
        records: Read from it.
        policy: Label policy of the scores; None is that of the records.

    Raises:
        DataError: If a record has scores that do not follow from its matrices.
    """
    rows = board.rows
    if not rows:
        return board
    if len(rows) > _MOST_ROWS:
        return replace(board, untested=f"{len(rows)} rows are more than {_MOST_ROWS}; ask for fewer")
    compared = {result.record for row in rows for result in row.results}
    score = column_scorer(board.metric, board.scored_classes)
    chosen = [record for record in records if record.id in compared]
    try:
        found = load_matrices(results, chosen, policy)
    except DataError as error:
        return board if len(rows) < 2 else replace(board, untested=reason_of(error, results))
    if policy is None:  # else the scores were derived from these matrices
        _require_own_scores(results, chosen, found)
    if len(rows) < 2:
        return board
    methods = [found.method(row.label) for row in rows]
    resampled = [resample(method.counts, method.seeds, score) for method in methods]
    differences = {
        pair: estimates(resampled[pair[0]] - resampled[pair[1]]) for pair in combinations(range(len(rows)), 2)
    }
    known = [e for of_pair in differences.values() for e in of_pair if e is not None]
    if not known:
        return replace(board, untested="no score is defined")
    if all(e.standard_error is None for e in known):
        return replace(board, untested="one seed and one tile have no spread")
    standings = {
        name: _groups(rows, [float(d.estimate[number]) for d in resampled], _separated(differences, number))
        for number, name in enumerate(found.columns)
    }
    note = (
        f"the best score and all that are not separated from it (paired bootstrap of {known[0].basis}; "
        f"Holm over {len(differences)} pair{'s' * (len(differences) > 1)}, level {_ALPHA:g}; "
        "a row that varies more can be in it below one that is not)"
    )
    return replace(board, standings=standings, group_note=note)


def _require_own_scores(results: Path, records: Sequence[Record], found: ScoreBoard) -> None:
    """Refuse records that claim other scores than their matrices give."""
    for record in records:
        method = found.method(label_of(record))
        of_seed = method.matrices[method.seeds.index(record.identity["seed"])]  # (T, C, K, K)
        by_scenario = {name: of_seed[:, number] for number, name in enumerate(found.scenarios)}
        if problems := score_problems(record, by_scenario):
            raise refusal(record_path(results, record.id), problems[0])


def _separated(
    differences: Mapping[tuple[int, int], Sequence[Estimate | None]], column: int
) -> NDArray[np.bool_]:
    """Return which rows differ in a column after a correction for all pairs, (N, N)."""
    # Where there is no spread, or no score, nothing is told apart.
    found = [of_pair[column] for of_pair in differences.values()]
    p_values = [1.0 if e is None or e.p_value is None else e.p_value for e in found]
    number = 1 + max(last for _, last in differences)
    separated = np.zeros((number, number), dtype=bool)
    for (a, b), p_value in zip(differences, holm(p_values), strict=True):
        separated[a, b] = separated[b, a] = p_value < _ALPHA
    return separated


def _groups(rows: Sequence[Row], means: Sequence[float], separated: NDArray[np.bool_]) -> dict[str, int]:
    """Return the group, 1 or 2, of the rows that are in one."""
    defined = [number for number, mean in enumerate(means) if np.isfinite(mean)]
    if not defined:
        return {}
    groups = tie_groups([means[n] for n in defined], separated[np.ix_(defined, defined)])
    top = {rows[defined[n]].label: 1 for n in groups.top}
    return top | {rows[defined[n]].label: 2 for n in groups.second}
