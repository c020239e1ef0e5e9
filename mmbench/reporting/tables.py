"""Tables as text, by format; and the leaderboard as a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tabulate import tabulate

from mmbench.reporting.escaping import markdown, one_line
from mmbench.reporting.html_tables import html_table
from mmbench.reporting.latex import latex_text
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.table_model import Cell, Figure, Table
from mmbench.reporting.views import leaderboard_table

__all__ = [
    "RENDERERS",
    "Table",
    "console_table",
    "console_text",
    "latex_table",
    "leaderboard_table",
    "markdown_table",
    "markdown_text",
]

_NUMBERS = re.compile(r"[-\d., ±–]*")
_BELOW = "not compared:"
"""Stands in a row of its own above the rows under the rule, where a format has no rules inside a table."""


def console_text(table: Table) -> str:
    """Return a table for a terminal."""
    body = _grid(table, "simple", lambda cell: one_line(str(cell)))
    return "\n".join([one_line(table.title), "", body, "", *map(one_line, table.notes)])


def markdown_text(table: Table) -> str:
    """Return a table in GitHub's Markdown, its notes below; the best group of a column is bold."""
    notes = [markdown(note) for note in table.notes]
    if table.holds("top"):
        notes.insert(0, f"**Bold**: {markdown(table.groups)}.")
    body = _grid(table, "github", _markdown_cell)
    return "\n".join([f"**{markdown(table.title)}**", "", body, "", *(f"{note}  " for note in notes)])


def _grid(table: Table, style: str, words: Callable[[Cell], str]) -> str:
    """Return the rows as a grid of characters."""
    rows = [[words(cell) for cell in row] for row in table.rows]
    if table.below:
        rows.append([words(_BELOW), *[""] * (len(table.headers) - 1)])
        rows += [[words(cell) for cell in row] for row in table.below]
    headers = [words(header) for header in table.headers]
    return tabulate(rows, headers=headers, tablefmt=style, disable_numparse=True)


def _markdown_cell(cell: Cell) -> str:
    """Return one cell in Markdown."""
    words = str(cell)
    # Inside a table a number cannot begin a list, as it could on a line of its own.
    words = words if _NUMBERS.fullmatch(words) else markdown(words)
    return f"**{words}**" if isinstance(cell, Figure) and cell.standing == "top" else words


RENDERERS: dict[str, Callable[[Table], str]] = {
    "console": console_text,
    "markdown": markdown_text,
    "latex": latex_text,
    "html": html_table,
}
"""By the names of `--format`."""


def console_table(board: Leaderboard) -> str:
    """Return the leaderboard for a terminal."""
    return console_text(leaderboard_table(board))


def markdown_table(board: Leaderboard) -> str:
    """Return the leaderboard in GitHub's Markdown, its notes below."""
    return markdown_text(leaderboard_table(board))


def latex_table(board: Leaderboard) -> str:
    """Return the leaderboard as a LaTeX table; see `latex.PACKAGES`."""
    return latex_text(leaderboard_table(board))


def joined(tables: Sequence[Table], style: str) -> str:
    """Return some tables in one format, an empty line between them."""
    return "\n\n".join(RENDERERS[style](table) for table in tables)
