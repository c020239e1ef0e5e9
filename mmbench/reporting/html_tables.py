"""Tables in HTML: an element to be put into a page, or a page of its own that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence

from mmbench.reporting.escaping import html
from mmbench.reporting.table_model import Cell, Figure, Table

STYLE = """
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; color: #1b1b1b; }
figure.table { margin: 0 0 2.5rem; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .5rem; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; font-weight: inherit; }
thead th { border-top: 2px solid; border-bottom: 1px solid; font-weight: 600; }
tbody { border-bottom: 2px solid; }
tbody.below { color: #5a5a5a; }
td.top { font-weight: 700; }
td.second { text-decoration: underline; text-underline-offset: .2em; }
figcaption { font-size: .8rem; margin-top: .5rem; max-width: 60rem; }
figcaption p { margin: .15rem 0; }
""".strip()
"""Of the elements that `html_table` writes; the classes `top`, `second` and `below` carry what they mean."""


def html_table(table: Table) -> str:
    """Return a table as one `figure` element, its notes below."""
    heads = "".join(f'<th scope="col">{html(header)}</th>' for header in table.headers)
    lines = [
        '<figure class="table">',
        "<table>",
        f"<caption>{html(table.title)}</caption>",
        f"<thead><tr>{heads}</tr></thead>",
        *_body(table.rows, ""),
        *(_body(table.below, ' class="below"') if table.below else []),
        "</table>",
        "<figcaption>",
        *(f"<p>{html(note)}</p>" for note in _notes(table)),
        "</figcaption>",
        "</figure>",
    ]
    return "\n".join(lines)


def html_page(tables: Sequence[Table], title: str = "mmbench report") -> str:
    """Return a whole page that holds some tables and refers to nothing outside."""
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>{html(title)}</title>',
        f"<style>\n{STYLE}\n</style></head>",
        "<body>",
        *map(html_table, tables),
        "</body>",
        "</html>",
    ]
    return "\n".join(lines)


def _body(rows: Sequence[Sequence[Cell]], attributes: str) -> list[str]:
    """Return some rows as one body."""
    return [f"<tbody{attributes}>", *(f"<tr>{''.join(_row(row))}</tr>" for row in rows), "</tbody>"]


def _row(row: Sequence[Cell]) -> list[str]:
    """Return the cells of a row; the first is its heading."""
    cells = [f'<th scope="row">{html(str(row[0]))}</th>']
    for cell in row[1:]:
        standing = cell.standing if isinstance(cell, Figure) else ""
        kind = f' class="{standing}"' if standing else ""
        cells.append(f"<td{kind}>{html(str(cell))}</td>")
    return cells


def _notes(table: Table) -> list[str]:
    """Return the notes, first what the classes mean."""
    top = [f"Bold: {table.groups}."] if table.holds("top") else []
    second = ["Underlined: the group after it."] if table.holds("second") else []
    return [*top, *second, *table.notes]
