r"""Tables in LaTeX, to be put into a paper with \input; they need the packages booktabs and graphicx."""

from __future__ import annotations

from collections.abc import Sequence

from mmbench.reporting.escaping import latex, one_line
from mmbench.reporting.table_model import Cell, Figure, RowName, Table

PACKAGES = ("booktabs", "graphicx")
_SYMBOLS = {"●": r"$\bullet$", "○": r"$\circ$", "‡": r"$\ddagger$"}
_COMMANDS = {"top": r"\textbf", "second": r"\underline"}


def latex_text(table: Table) -> str:
    """Return a table float: a caption above, the notes below, and in comments where its numbers come from.

    Options of methods, which are long, stand in notes; a table that is wider than the text is made smaller.
    """
    options = _lettered([row[0] for row in (*table.rows, *table.below) if row])
    lines = [
        *(f"% {one_line(line)}" for line in table.origin),
        f"% packages: {', '.join(PACKAGES)}",
        r"\begin{table}",
        r"\centering",
        r"\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{_words(table.title)}.}}",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(table.headers) - 1)}@{{}}}}",
        r"\toprule",
        _line([_words(header) for header in table.headers]),
        r"\midrule",
        *_body(table.rows, options),
        *([r"\midrule", *_body(table.below, options)] if table.below else []),
        r"\bottomrule",
        r"\end{tabular}}",
        *_notes(table, options),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _body(rows: Sequence[Sequence[Cell]], options: dict[str, str]) -> list[str]:
    """Return the lines of some rows."""
    return [_line([_cell(cell, options) for cell in row]) for row in rows]


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _lettered(names: Sequence[Cell]) -> dict[str, str]:
    """Return a short sign for each set of options, in the order of the rows."""
    found = dict.fromkeys(name.options for name in names if isinstance(name, RowName) and name.options)
    return {options: _letter(number) for number, options in enumerate(found)}


def _letter(number: int) -> str:
    """Return a letter for a number from 0: a to z, then aa, ab and so on."""
    rest, last = divmod(number, 26)
    return (_letter(rest - 1) if rest else "") + chr(ord("a") + last)


def _cell(cell: Cell, options: dict[str, str]) -> str:
    """Return one cell: the best group bold, the next underlined."""
    if isinstance(cell, RowName):
        sign = f"$^{{{options[cell.options]}}}$" if cell.options else ""
        return _words(cell.name) + sign + _words(cell.marks)
    if not isinstance(cell, Figure):
        return _words(cell)
    value, plus, deviation = str(cell).partition(" ± ")
    shown = rf"{_COMMANDS[cell.standing]}{{{value}}}" if cell.standing else value
    return shown + (rf" {{\scriptsize $\pm$ {deviation}}}" if plus else "")


def _notes(table: Table, options: dict[str, str]) -> list[str]:
    """Return the paragraph below the table."""
    notes = [_words(note) for note in table.notes]
    if table.holds("second"):
        notes.insert(0, "Underlined: the group after it.")
    if table.holds("top"):
        notes.insert(0, f"Bold: {_words(table.groups)}.")
    notes += [f"$^{{{sign}}}$~{_words(words)}." for words, sign in options.items()]
    if not notes:
        return []
    return [r"\par\smallskip", r"{\footnotesize\raggedright", *notes, r"\par}"]


def _words(text: str) -> str:
    """Return words without meaning to LaTeX, with the dots of presence as signs."""
    parts = [text]
    for symbol in _SYMBOLS:
        parts = [piece for part in parts for piece in _split(part, symbol)]
    return "".join(_SYMBOLS[part] if part in _SYMBOLS else _piece(part) for part in parts)


def _piece(text: str) -> str:
    """Return escaped words with the space at their ends, which beside a sign has a meaning."""
    before, after = (" " if end.isspace() else "" for end in (text[:1], text[-1:]))
    return f"{before}{latex(text)}{after}"


def _split(text: str, symbol: str) -> list[str]:
    """Return a text cut before and after every occurrence of a symbol."""
    pieces = text.split(symbol)
    return [part for piece in pieces for part in (piece, symbol)][:-1]
