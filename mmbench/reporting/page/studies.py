"""What a page can switch between: leaderboards under every label policy and metric of their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmbench.errors import DataError
from mmbench.metrics import METRICS, Metric
from mmbench.records import Record
from mmbench.reporting.leaderboard import Leaderboard, leaderboards
from mmbench.reporting.matrices import reason_of
from mmbench.reporting.rescoring import LABEL_POLICIES, rescored
from mmbench.reporting.standings import with_standings


@dataclass(frozen=True)
class Study:
    """One leaderboard with all that can be chosen of it.

    Attributes:
        board: As it was asked for.
        boards: Label policy -> metric -> the same leaderboard under both.
        records: Label policy -> id -> the record with the scores of the policy; finished records of the
            rows only.
        refused: Label policy -> why the records do not hold it.
    """

    board: Leaderboard
    boards: Mapping[str, Mapping[Metric, Leaderboard]]
    records: Mapping[str, Mapping[str, Record]]
    refused: Mapping[str, str]


def find_studies(results: Path, records: Sequence[Record], boards: Sequence[Leaderboard]) -> list[Study]:
    """Score every leaderboard in all ways that its records allow.

    Args:
        results: Folder of the records.
        records: All of them, scored under the label policy of the boards.
        boards: All that `leaderboards` makes of these records, in its order.
    """
    return [_study(results, records, boards, number) for number in range(len(boards))]


def _study(results: Path, records: Sequence[Record], boards: Sequence[Leaderboard], number: int) -> Study:
    """Score one leaderboard in all ways."""
    board = boards[number]
    by_policy: dict[str, dict[Metric, Leaderboard]] = {}
    held: dict[str, dict[str, Record]] = {}
    refused = {}
    for policy in dict.fromkeys((board.labels, *LABEL_POLICIES)):
        try:
            scored = _under(results, records, board, policy)
        except DataError as error:
            refused[policy] = reason_of(error, results)
            continue
        held[policy] = {record.id: record for record in scored if record.id in board.records}
        by_policy[policy] = {
            metric: board
            if (policy, metric) == (board.labels, board.metric)
            # Records group alike whatever is scored, so a leaderboard keeps its place.
            else with_standings(leaderboards(scored, metric, policy)[number], results, scored, policy)
            for metric in METRICS
        }
    return Study(board, by_policy, held, refused)


def _under(results: Path, records: Sequence[Record], board: Leaderboard, policy: str) -> list[Record]:
    """Return all records, those of a leaderboard with the scores of a policy.

    Raises:
        DataError: If one of the leaderboard does not hold the policy.
    """
    if policy == board.labels:
        return list(records)
    behind = set(board.records)
    own = rescored(results, [record for record in records if record.id in behind], policy)
    return [*own, *(record for record in records if record.id not in behind)]
