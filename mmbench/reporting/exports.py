"""Every number of a report for other programs: tidy CSV, the cells of tables as CSV, and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from mmbench._version import __version__
from mmbench.metrics import CLASS_METRICS, METRICS
from mmbench.reporting.escaping import csv_cell
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.rows import Row, SeedResult
from mmbench.reporting.table_model import MISSING, Cell, Figure, Table

SCHEMA, SCHEMA_VERSION = "mmbench.report", 1
"""Of the JSON; the version grows when a key changes its meaning or goes."""

TIDY_COLUMNS = (
    "dataset",
    "split",
    "labels",
    "recipe",
    "patterns",
    "protocol",
    "ranked",
    "method",
    "options",
    "complete",
    "seed",
    "scenario",
    "metric",
    "class",
    "value",
    "record",
)
"""Of the tidy CSV; `value` is in [0, 1], empty where undefined; `class` is empty for scores of all."""


def tidy_csv(boards: Sequence[Leaderboard]) -> str:
    """Return one row for each method, seed, scenario and metric, and one a class for IoU and F1."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(TIDY_COLUMNS)
    for board in boards:
        for row in board.all_rows:
            for result in row.results:
                writer.writerows(_tidy_rows(board, row, result))
    return stream.getvalue()


def _tidy_rows(board: Leaderboard, row: Row, result: SeedResult) -> Iterator[list[Any]]:
    """Yield the rows of one seed of a method."""
    facts: list[Any] = [board.dataset, board.split, board.labels, board.recipe, board.patterns]
    facts += [board.protocol, int(board.ranked)]
    facts += [row.method or row.label, row.set_options, int(not row.lacks), result.seed]
    before = [_plain(fact) for fact in facts]
    record = csv_cell(result.record)
    for scenario, scores in result.scenarios.items():
        place = csv_cell(scenario)
        for metric in METRICS:
            yield [*before, place, metric, "", _value(scores.get(metric)), record]
        for class_metric in CLASS_METRICS:
            for number, value in enumerate(scores.get(class_metric, ())):
                name = board.classes[number] if number < len(board.classes) else str(number)
                yield [*before, place, class_metric, csv_cell(name), _value(value), record]


def _plain(fact: Any) -> Any:
    """Return a fact as a cell; words of strangers are made harmless."""
    return csv_cell(fact) if isinstance(fact, str) else fact


def _value(value: float | None) -> str:
    """Return all digits of a number, or nothing."""
    return "" if value is None else repr(float(value))


def tables_csv(tables: Sequence[Table]) -> str:
    """Return the cells of some tables in one, with all digits; a column is empty where a table lacks it.

    A column that holds deviations is followed by one of them. The first column is the table's title, the last
    says whether the row is compared with the others or stands below them.
    """
    lines = [line for table in tables for line in _table_lines(table)]
    columns = [name for name in dict.fromkeys(name for line in lines for name in line) if name != _COMPARED]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*columns, _COMPARED], restval="", lineterminator="\n")
    writer.writerow({name: csv_cell(name) for name in writer.fieldnames})
    writer.writerows(lines)
    return stream.getvalue()


_COMPARED = "compared"


def _table_lines(table: Table) -> Iterator[dict[str, str]]:
    """Yield the rows of one table, column -> value."""
    rows = [*table.rows, *table.below]
    spread = [any(_deviation(row[at]) is not None for row in rows) for at in range(len(table.headers))]
    for number, row in enumerate(rows):
        line = {"table": csv_cell(table.title)}
        for name, cell, has_spread in zip(table.headers, row, spread, strict=True):
            line[name] = _cell(cell)
            if has_spread:
                line[f"{name} sd"] = _value(_deviation(cell))
        yield line | {_COMPARED: str(int(number < len(table.rows)))}


def _cell(cell: Cell) -> str:
    """Return a number with all digits, or words; nothing where there is no value."""
    if isinstance(cell, Figure):
        return _value(cell.value)
    return "" if cell == MISSING else csv_cell(str(cell))


def _deviation(cell: Cell) -> float | None:
    """Return the deviation of a number that has one."""
    return cell.deviation if isinstance(cell, Figure) else None


def report_json(boards: Sequence[Leaderboard], command: str = "") -> str:
    """Return everything behind the tables; each number with the ids of the records that it comes from.

    Args:
        boards: All of one metric; by it rows are sorted, summarised and, if they may be, ranked.
        command: As typed, or "".
    """
    content = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "mmbench": __version__,
        "command": command,
        "boards": [_board(board) for board in boards],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _board(board: Leaderboard) -> dict[str, Any]:
    """Return a board as plain values."""
    return {
        "dataset": board.dataset,
        "split": board.split,
        "modalities": list(board.modalities),
        "labels": board.labels,
        "five_classes": board.five_classes,
        "recipe": board.recipe,
        "patterns": board.patterns,
        "protocol": board.protocol,
        "ranked": board.ranked,
        "why_not_ranked": board.unranked,
        "mixed_code": board.mixed_code,
        "metric": board.metric,
        "unit": "percent for summaries, share in [0, 1] for scores",
        "scenarios": list(board.scenarios),
        "classes": list(board.classes),
        "scored_classes": list(board.scored_classes),
        "seeds": list(board.seeds),
        "groups": board.group_note,
        "methods": [_method(board, row, number) for number, row in enumerate(board.all_rows, 1)],
        "failures": list(board.failures),
    }


def _method(board: Leaderboard, row: Row, place: int) -> dict[str, Any]:
    """Return a row as plain values; its place among all is its rank only where it has one."""
    records = [result.record for result in row.results]
    ranked = board.ranked and not row.lacks
    return {
        "label": row.label,
        "method": row.method,
        "options": row.options,
        "rank": place if ranked else None,
        "complete": not row.lacks,
        "lacks": list(row.lacks),
        "sees_hidden_in_training": row.sees_hidden,
        "note": row.note,
        "parameters": row.parameters,
        "training_seconds": row.seconds,
        "device": row.device,
        "profile": row.profile,
        "summary": {
            name: {
                "mean": summary.mean,
                "deviation": summary.deviation,
                "count": summary.count,
                "group": board.standings.get(name, {}).get(row.label),
                "records": records,
            }
            for name, summary in row.figures.items()
        },
        "results": [
            {"seed": result.seed, "record": result.record, "scenarios": result.scenarios}
            for result in row.results
        ],
    }
