"""A profile in one table: a row a method, its costs under each scenario side by side."""

from __future__ import annotations

from collections.abc import Callable

from mmbench.profiling.report import Case, MethodProfile, ProfileReport
from mmbench.reporting.profile_tables import method_labels, settings_words
from mmbench.reporting.tables import Table

_COLUMNS: tuple[tuple[str, Callable[[Case], float | None], str], ...] = (
    ("GFLOP", lambda case: case.costs.inference.flops / 1e9, ".1f"),
    ("ms", lambda case: case.latency.p50_ms if case.latency else None, ".0f"),
    ("step GFLOP", lambda case: case.costs.training.flops / 1e9, ".0f"),
    ("step s", lambda case: case.step_seconds, ".2f"),
    ("kept MiB", lambda case: case.costs.saved_bytes / 2**20, ".0f"),
)
"""(heading, figure of a case, form)."""


def summary_table(report: ProfileReport) -> Table:
    """Return a row a method and a column a figure, the scenarios' values divided by slashes.

    Of several batch sizes the first is shown.
    """
    batch_size = report.settings.batch_sizes[0]
    scenarios = [case.scenario for case in _cases(report.methods[0], batch_size)]
    columns = [
        column for column in _COLUMNS if any(column[1](case) is not None for case in report.methods[0].cases)
    ]
    rows = []
    for method, label in zip(report.methods, method_labels(report), strict=True):
        cases = _cases(method, batch_size)
        figures = [[_word(of(case), form) for case in cases] for _, of, form in columns]
        sizes = (f"{method.parameters_trained / 1e6:.2f}", f"{method.parameters_inference / 1e6:.2f}")
        rows.append((label, *sizes, *(" / ".join(words) for words in figures)))
    return Table(
        f"Cost by method, batch {batch_size}, {report.settings.size} x {report.settings.size}",
        ("method", "params (M)", "at inference (M)", *(heading for heading, *_ in columns)),
        tuple(rows),
        (
            f"Under the scenarios {' / '.join(scenarios)}. GFLOP and ms (median) of a forward, step: of a "
            "training step, kept: from its forward for its backward. FLOP: 2 for a multiply-accumulate.",
            settings_words(report.settings),
        ),
    )


def _cases(method: MethodProfile, batch_size: int) -> list[Case]:
    return [case for case in method.cases if case.batch_size == batch_size]


def _word(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
