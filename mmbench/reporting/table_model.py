"""Tables before any format: names of rows, words and numbers, and what is to be said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MISSING = "-"
"""Stands where there is no value."""

Standing = Literal["", "top", "second"]
"""Whether a score belongs to the best group of its column, to the one after it, or to neither."""


@dataclass(frozen=True)
class Figure:
    """A number in a cell.

    Attributes:
        value: In the unit that the column's heading says.
        deviation: Sample standard deviation over seeds; None below three.
        decimals: Printed; exports keep all digits.
        standing: In its column; formats show it as they can.
    """

    value: float
    deviation: float | None = None
    decimals: int = 1
    standing: Standing = ""

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.{self.decimals}f}"
        return f"{self.value:.{self.decimals}f}{spread}"


@dataclass(frozen=True)
class RowName:
    """What a row is called.

    Attributes:
        name: A method's key, with its variant.
        options: Those that were set, in words, or "". A format may print them in a note.
        marks: Signs that a note explains, as " * †".
    """

    name: str
    options: str = ""
    marks: str = ""

    def __str__(self) -> str:
        return (f"{self.name} ({self.options})" if self.options else self.name) + self.marks


Cell = str | Figure | RowName


@dataclass(frozen=True)
class Table:
    """Rows of cells, before any format.

    Attributes:
        title: One line.
        headers: Of the columns; the first names the rows.
        rows: As many cells each.
        notes: What a reader must know beside the figures, a sentence each.
        below: Rows that stand under a rule: they are not compared with the others.
        groups: What the top group is; a format says it where it shows standings.
        origin: Where the numbers come from, a line each; formats that have comments keep it in one.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    below: tuple[tuple[Cell, ...], ...] = ()
    groups: str = ""
    origin: tuple[str, ...] = ()

    def holds(self, standing: Standing) -> bool:
        """Whether any figure has this standing."""
        return any(isinstance(c, Figure) and c.standing == standing for row in self.rows for c in row)
