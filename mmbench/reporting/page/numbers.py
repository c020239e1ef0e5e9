"""Tables and what lies behind their numbers, as plain data: the page's script only picks and sorts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbench.errors import DataError
from mmbench.metrics import CLASS_METRICS, METRICS, Metric
from mmbench.records import Record
from mmbench.reporting.cost_views import record_cost_view
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.page.studies import Study
from mmbench.reporting.rescoring import LABEL_POLICIES, policy_confusions
from mmbench.reporting.rows import CLASS_METRIC_OF, MEAN, METRIC_NAMES, WORST, Row
from mmbench.reporting.table_model import MISSING, Cell, Figure, RowName, Table
from mmbench.reporting.views import class_view, leaderboard_table, summary_view

_DECIMALS = 4
"""Of scores from which a reader checks a mean by hand."""


def study_data(results: Path, study: Study) -> dict[str, Any]:
    """Return all that the script needs of one leaderboard.

    Args:
        results: Folder of the matrices.
        study: The leaderboard in all ways.
    """
    board = study.board
    places = {row.label: place for place, row in enumerate(board.all_rows)}
    return {
        "title": _study_title(board),
        "policy": board.labels,
        "metric": board.metric,
        "scenarios": list(board.scenarios),
        "classes": list(board.classes),
        "scored": list(board.scored_classes),
        "policies": [{"key": key, "words": key} for key in _ordered(study)],
        "metrics": [{"key": key, "words": METRIC_NAMES[key]} for key in METRICS],
        "tables": {
            policy: {metric: _Views(scored, places).all() for metric, scored in by_metric.items()}
            for policy, by_metric in study.boards.items()
        },
        "rows": [
            {"label": row.label, "records": [result.record for result in row.results]}
            for row in board.all_rows
        ],
        "outcomes": {
            policy: {key: _outcome(results, record, policy) for key, record in held.items()}
            for policy, held in study.records.items()
        },
    }


def _study_title(board: Leaderboard) -> str:
    """Return what tells a leaderboard from the others of a page."""
    five = ", five classes" if board.five_classes else ""
    return f"{board.dataset}{five}, split {board.split}, recipe {board.recipe}, protocol {board.protocol}"


def _ordered(study: Study) -> list[str]:
    """Return the policies that the records hold, in the order of the command line."""
    return sorted(study.boards, key=lambda p: LABEL_POLICIES.index(p) if p in LABEL_POLICIES else -1)


class _Views:
    """The tables of one leaderboard, each a row a method in the order of the leaderboard's rows."""

    def __init__(self, board: Leaderboard, places: Mapping[str, int]) -> None:
        """Take a leaderboard, and the place of each label among the page's rows."""
        self._board, self._places = board, places

    def all(self) -> list[dict[str, Any]]:
        """Return every table with what it is called among them."""
        board = self._board
        found = [
            self._view("scenarios", "Scores by scenario", leaderboard_table(board)),
            self._view("robustness", "Robustness", summary_view([board])[0]),
        ]
        if board.metric in CLASS_METRIC_OF:
            found += [
                self._view(f"class {scenario}", f"By class, given {_given(scenario)}", table, scenario)
                for scenario, table in zip(board.scenarios, class_view([board]), strict=True)
            ]
        return [*found, self._view("cost", "Cost", record_cost_view([board])[0])]

    def _view(self, key: str, words: str, table: Table, scenario: str | None = None) -> dict[str, Any]:
        """Return one table; a scenario is that of all its scores."""
        return {
            "key": key,
            "words": words,
            "title": table.title,
            "scenario": scenario,
            "headers": list(table.headers),
            "rows": self._rows(table.rows, self._board.rows),
            "below": self._rows(table.below, self._board.incomplete),
            "notes": [*_groups(table), *table.notes],
        }

    def _rows(self, cells: Sequence[Sequence[Cell]], rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Return rows of a table, each with the place of what it is about."""
        return [
            {"place": self._places[row.label], "cells": [_cell(cell) for cell in of_row]}
            for of_row, row in zip(cells, rows, strict=True)
        ]


def _given(scenario: str) -> str:
    """Return a scenario in words."""
    return "all" if scenario == "full" else scenario.replace("+", " + ")


def _cell(cell: Cell) -> dict[str, Any]:
    """Return a cell: what it says, and by what it is sorted."""
    if isinstance(cell, RowName):
        return {"text": cell.name, "options": cell.options, "marks": cell.marks.strip(), "sort": cell.name}
    if isinstance(cell, Figure):
        return {"text": str(cell), "sort": finite(cell.value), "standing": cell.standing, "figure": True}
    if cell == MISSING:
        return {"text": "–", "sort": None}
    return {"text": cell, "sort": int(cell) if cell.isdecimal() else cell}


def _groups(table: Table) -> list[str]:
    """Say what bold and underlined scores are."""
    top = [f"Bold: {table.groups}."] if table.holds("top") else []
    return [*top, *(["Underlined: the group after it."] if table.holds("second") else [])]


def finite(value: float | None) -> float | None:
    """Return a number that JSON can hold, or None."""
    return None if value is None or not math.isfinite(value) else value


def _outcome(results: Path, record: Record, policy: str) -> dict[str, Any]:
    """Return the scores of one record under a policy in %, and its matrices summed over tiles."""
    try:
        matrices = policy_confusions(results, record, policy)
    except DataError as error:
        counts, lacking = {}, str(error)
    else:
        counts, lacking = {name: m.sum(0).tolist() for name, m in matrices.items()}, ""
    return {
        "scores": {metric: _columns(record, metric) for metric in METRICS},
        "classes": {
            name: {key: [_percent(v) for v in values[key]] for key in CLASS_METRICS}
            for name, values in record.scenarios.items()
        },
        "matrices": counts,
        "lacking": lacking,
    }


def _columns(record: Record, metric: Metric) -> dict[str, str | None]:
    """Return the scores of a record by scenario, and their mean and worst."""
    values = {name: scores[metric] for name, scores in record.scenarios.items()}
    known = [value for value in values.values() if value is not None]
    summary = {MEAN: sum(known) / len(known), WORST: min(known)} if known else {}
    return {name: _percent(value) for name, value in (values | summary).items()}


def _percent(value: float | None) -> str | None:
    """Return a share in % with enough digits to check a mean by hand."""
    return None if finite(value) is None or value is None else f"{100 * value:.{_DECIMALS}f}"


def record_data(record: Record) -> dict[str, Any]:
    """Return who, when and with what a record was made, words beside words."""
    given, code = record.provenance, record.identity.get("code", {})
    facts = {
        "command": given.get("command", "not recorded"),
        "started": given.get("started", "not recorded"),
        "took": f"{given['seconds']:.0f} s" if isinstance(given.get("seconds"), (int, float)) else "",
        "options": _pairs(record.identity["method"].get("options", {})),
        "checkpoint": _pairs(record.training.get("checkpoint", {})),
        "environment": _pairs(record.environment),
        "code": _pairs(code),
        "no peek": f"proved for {', '.join(record.no_peek)}" if record.no_peek else "not proved",
    }
    return {
        "seed": record.identity["seed"],
        "facts": [[name, str(words)] for name, words in facts.items() if words],
    }


def _pairs(values: Any) -> str:
    """Return a mapping in one line."""
    return ", ".join(f"{key} {value}" for key, value in values.items()) if isinstance(values, dict) else ""
