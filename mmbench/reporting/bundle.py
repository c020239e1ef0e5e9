"""Everything a report can say, written into one folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmbench.errors import InvalidRecipeError
from mmbench.records import Record
from mmbench.reporting.cost_views import record_cost_view, tradeoff_view
from mmbench.reporting.data_places import DEFAULT_PLACE, DataPlace
from mmbench.reporting.exports import report_json, tables_csv, tidy_csv
from mmbench.reporting.html_tables import html_page
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.regimes import regime_view
from mmbench.reporting.table_model import Table
from mmbench.reporting.tables import joined
from mmbench.reporting.views import View, class_view, scenario_view, subset_view, summary_view

VIEWS: Mapping[str, View] = {
    "scenario": scenario_view,
    "class": class_view,
    "summary": summary_view,
    "cost": record_cost_view,
    "tradeoff": tradeoff_view,
    "subsets": subset_view,
    "regime": regime_view,
}
"""By the names of `--view`."""

_SUFFIXES = {"console": "txt", "markdown": "md", "latex": "tex", "html": "html", "csv": "csv"}


@dataclass(frozen=True)
class Report:
    """What a report is made of.

    Attributes:
        results: Folder of the records.
        records: Those that were asked for, scored under the label policy of the boards.
        boards: Of these records.
        command: As typed.
        place: Where the data behind the records lie, for pictures of them.
    """

    results: Path
    records: Sequence[Record]
    boards: Sequence[Leaderboard]
    command: str
    place: DataPlace = DEFAULT_PLACE

    def tables(self, view: str) -> list[Table]:
        """Return the tables of a view, the command at the head of where they come from."""
        tables = VIEWS[view](self.boards)
        return [replace(table, origin=(f"made by: {self.command}", *table.origin)) for table in tables]

    def page(self) -> str:
        """Return the page that shows, sorts and explains everything, in one file.

        Raises:
            MMBenchError: If it was said where the data lie, and they are not the recorded ones.
        """
        from mmbench.reporting.page.document import page_text  # tables alone need no drawing library

        return page_text(self.results, self.records, self.boards, self.command, self.place)


Extra = Callable[[Report, Path], Sequence[Path]]
"""(report, folder) -> the files that it wrote there."""


def _figures(report: Report, folder: Path) -> list[Path]:
    """Write the figures into a folder of their own."""
    from mmbench.reporting.figures.files import write_figures  # tables alone need no drawing library

    return write_figures(report.results, report.records, report.boards, folder / "figures", report.place)


def _page(report: Report, folder: Path) -> list[Path]:
    """Write the page."""
    path = folder / "report.html"
    path.write_text(report.page(), encoding="utf-8")
    return [path]


EXTRAS: tuple[Extra, ...] = (_figures, _page)
"""What `write_all` calls after the tables, in this order."""


def write_all(report: Report, folder: Path) -> list[Path]:
    """Write every view in every format, the exports, and what `EXTRAS` add.

    Args:
        report: To write.
        folder: Made if it is not there; files of the same names are replaced.

    Returns:
        The files, in the order of writing.

    Raises:
        MMBenchError: If it was said where the data lie, and they are not the recorded ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"scores.csv": tidy_csv(report.boards), "scores.json": report_json(report.boards, report.command)}
    for view in VIEWS:
        try:
            tables = report.tables(view)
        except InvalidRecipeError:  # a view that the metric does not have
            continue
        for style, suffix in _SUFFIXES.items():
            texts[f"{view}.{suffix}"] = tables_text(tables, style)
    written = []
    for name, text in texts.items():
        written.append(folder / name)
        written[-1].write_text(text, encoding="utf-8")
    for extra in EXTRAS:
        written += extra(report, folder)
    return written


def tables_text(tables: Sequence[Table], style: str) -> str:
    """Return some tables as the content of one file of a format."""
    if style == "html":
        return html_page(tables) + "\n"
    if style == "csv":
        return tables_csv(tables)
    return joined(tables, style) + "\n"
