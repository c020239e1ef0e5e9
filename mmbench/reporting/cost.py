"""Cost beside accuracy: a leaderboard joined with the profiles of the same methods and options."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmbench.cells import option_defaults
from mmbench.errors import DataError, UnknownNameError
from mmbench.profiling.report import Case, MethodProfile, ProfileReport, Settings
from mmbench.registry import VARIANT_MARK, find
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.notes import caveats, mark_notes
from mmbench.reporting.rows import METRIC_NAMES, Row, row_label
from mmbench.reporting.table_model import MISSING, Cell, Table
from mmbench.reporting.views import origin_lines, row_name, score

_SAME = ("dataset", "size", "device", "precision", "threads", "allocator", "modalities")
"""Settings of a profile without which two costs cannot stand in one table."""


@dataclass(frozen=True)
class Costed:
    """What was profiled of one method with its options, and how.

    Attributes:
        method: Profiled.
        settings: Of its profile.
        key: What a leaderboard's row must be to be the same: `options_key`.
    """

    method: MethodProfile
    settings: Settings
    key: str


def collect_costs(reports: Sequence[ProfileReport]) -> list[Costed]:
    """Return the methods of several profiles, in their order; of two of one method and options, the last.

    Raises:
        DataError: If there is none, or the profiles were taken under different conditions.
    """
    if not any(report.methods for report in reports):
        raise DataError("the profiles hold no method; expected what 'mmbench profile --json FILE' writes")
    first = reports[0].settings
    for report in reports[1:]:
        for name in _SAME:
            came, expected = getattr(report.settings, name), getattr(first, name)
            if came != expected:
                raise DataError(
                    f"profiles with {name} {expected} and {came} cannot stand in one table; "
                    "profile all methods in the same way"
                )
    found = {
        key: Costed(method, report.settings, key)
        for report in reports
        for method in report.methods
        for key in [options_key(method.name, all_options(method))]
    }
    return list(found.values())


def all_options(method: MethodProfile) -> dict[str, Any]:
    """Return the options of a profiled method with the defaults of those that were not set.

    A method that is not there any more, as somebody's own file, has those that were set.
    """
    try:
        return option_defaults(find("method", method.name)) | method.options
    except UnknownNameError:
        return dict(method.options)


def options_key(name: str, options: dict[str, Any]) -> str:
    """Return what two descriptions of one method with one set of options share.

    Args:
        name: With the variant or without: its options say all of it.
        options: All of them.
    """
    return json.dumps([name.partition(VARIANT_MARK)[0], options], sort_keys=True)


def cost_table(board: Leaderboard | None, costs: Sequence[Costed], batch_size: int | None = None) -> Table:
    """Return accuracy and cost of each method, side by side.

    Rows stand in the order of the profiles, then those that have only a score; what is not known is "-".

    Args:
        board: Scores, or None where there are no records.
        costs: Of `collect_costs`; at least one.
        batch_size: Whose costs are shown; None takes the smallest of the profiles.
    """
    settings = costs[0].settings
    batch_size = min(settings.batch_sizes) if batch_size is None else batch_size
    rows = {} if board is None else {options_key(row.method, row.options): row for row in board.all_rows}
    scenarios = () if board is None else (*board.scenarios, "mean", "worst")
    lines = [_line(board, rows.get(costed.key), costed, scenarios, batch_size) for costed in costs]
    profiled = {costed.key for costed in costs}
    alone = [row for key, row in rows.items() if key not in profiled]
    lines += [_line(board, row, None, scenarios, batch_size) for row in alone]
    title = "Cost" if board is None else f"{board.title}; and cost"
    columns = [name for name, _ in _COLUMNS]
    kept = [i for i, name in enumerate(columns, 1 + len(scenarios)) if any(x[i] != MISSING for x in lines)]
    keep = [*range(1 + len(scenarios)), *kept]
    headers = ["method", *scenarios, *columns]
    return Table(
        title,
        tuple(headers[i] for i in keep),
        tuple(tuple(line[i] for i in keep) for line in lines),
        tuple(_notes(board, settings, batch_size, costs, rows, alone)),
        groups="" if board is None else board.group_note,
        origin=() if board is None else origin_lines([board]),
    )


def _line(
    board: Leaderboard | None,
    row: Row | None,
    costed: Costed | None,
    scenarios: Sequence[str],
    batch_size: int,
) -> list[Cell]:
    """Return one method's cells."""
    scores = [MISSING if board is None or row is None else score(board, row, name) for name in scenarios]
    name: Cell = "" if row is None else row_name(row)
    if costed is None:
        return [name, *scores, *[MISSING] * len(_COLUMNS)]
    if row is None:
        name = row_label(costed.method.name, costed.method.options)
    cases = [case for case in costed.method.cases if case.batch_size == batch_size]
    return [name, *scores, *(show(costed.method, cases) for _, show in _COLUMNS)]


def _range(of_case: Callable[[Case], float | None], unit: float, decimals: int) -> _Column:
    """Return a column with the least and the most over the scenarios."""

    def show(_: MethodProfile, cases: Sequence[Case]) -> str:
        values = [value / unit for case in cases if (value := of_case(case)) is not None]
        if not values:
            return MISSING
        low, high = f"{min(values):.{decimals}f}", f"{max(values):.{decimals}f}"
        return low if low == high else f"{low} – {high}"

    return show


_Column = Callable[[MethodProfile, Sequence[Case]], str]
_COLUMNS: tuple[tuple[str, _Column], ...] = (
    ("params (M)", lambda method, _: f"{method.parameters_trained / 1e6:.2f}"),
    ("at inference", lambda method, _: f"{method.parameters_inference / 1e6:.2f}"),
    ("GFLOP", _range(lambda case: case.costs.inference.flops, 1e9, 1)),
    ("latency (ms)", _range(lambda case: case.latency.p50_ms if case.latency else None, 1.0, 0)),
    ("training GFLOP", _range(lambda case: case.costs.training.flops, 1e9, 0)),
    ("training step (s)", _range(lambda case: case.step_seconds, 1.0, 2)),
    ("kept (MiB)", _range(lambda case: case.costs.saved_bytes, 2.0**20, 0)),
)
"""Heading -> cell of a method with its cases at one batch size."""


def _notes(
    board: Leaderboard | None,
    settings: Settings,
    batch_size: int,
    costs: Sequence[Costed],
    rows: dict[str, Row],
    alone: Sequence[Row],
) -> list[str]:
    """Return how the costs were taken, and what could not be joined."""
    notes = [
        f"Cost of a batch of {batch_size} at {settings.size} x {settings.size}, {settings.device}, "
        f"{settings.precision}, torch {settings.torch}, {settings.allocator}; from the cheapest to the "
        "dearest scenario. FLOP: 2 for a multiply-accumulate. kept: for the backward of a training step."
    ]
    if board is not None:
        metric = METRIC_NAMES[board.metric]
        bare = [row_label(c.method.name, c.method.options) for c in costs if c.key not in rows]
        if bare:
            notes.append(f"No {metric}: no record of this table has these options: {'; '.join(bare)}.")
        if alone:
            words = "; ".join(row.label for row in alone)
            notes.append(f"No cost: no profile has these options: {words}.")
        notes += [*mark_notes(tuple(rows.values())), *caveats(board)]
    return notes
