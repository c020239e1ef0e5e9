"""Tables as text, for the console, in Markdown and in LaTeX; and the leaderboard as a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tabulate import tabulate

from mmbench.reporting.leaderboard import Leaderboard, Row
from mmbench.statistics import FEWEST_SEEDS_FOR_SPREAD, Summary

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_"},
}


@dataclass(frozen=True)
class Table:
    """Words in rows, before any format.

    Attributes:
        title: One line.
        headers: Of the columns; the first names the rows.
        rows: As many cells each.
        notes: What a reader must know beside the figures, a sentence each.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def console_text(table: Table) -> str:
    """Return a table for a terminal."""
    body = tabulate(table.rows, headers=table.headers, tablefmt="simple", disable_numparse=True)
    return "\n".join([table.title, "", body, "", *table.notes])


def markdown_text(table: Table) -> str:
    """Return a table in GitHub's Markdown, its notes below."""
    clean = [[_escape_markdown(c) for c in row] for row in table.rows]
    headers = [_escape_markdown(header) for header in table.headers]
    body = tabulate(clean, headers=headers, tablefmt="github", disable_numparse=True)
    notes = [_escape_markdown(note) for note in table.notes]
    return "\n".join([f"**{_escape_markdown(table.title)}**", "", body, "", *(f"{note}  " for note in notes)])


def latex_text(table: Table) -> str:
    """Return a table in LaTeX; needs the package booktabs."""
    headers = [_latex(h) for h in table.headers]
    rows = [[_latex(cell) for cell in row] for row in table.rows]
    columns = "l" + "r" * (len(headers) - 1)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(' '.join([table.title + '.', *table.notes]))}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(headers) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


RENDERERS: dict[str, Callable[[Table], str]] = {
    "console": console_text,
    "markdown": markdown_text,
    "latex": latex_text,
}
"""By the names of `--format`."""


def leaderboard_table(board: Leaderboard) -> Table:
    """Return a leaderboard's rows, scores first, then what they cost in training."""
    return Table(
        board.title,
        tuple(_headers(board)),
        tuple(tuple(row) for row in _cells(board)),
        tuple(_notes(board)),
    )


def console_table(board: Leaderboard) -> str:
    """Return the leaderboard for a terminal."""
    return console_text(leaderboard_table(board))


def markdown_table(board: Leaderboard) -> str:
    """Return the leaderboard in GitHub's Markdown, its notes below."""
    return markdown_text(leaderboard_table(board))


def latex_table(board: Leaderboard) -> str:
    """Return the leaderboard as a LaTeX table; needs the package booktabs."""
    return latex_text(leaderboard_table(board))


def escape_latex(text: str) -> str:
    """Return text in which no character means anything to LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text)


def _latex(text: str) -> str:
    """Return escaped text with ± and † as LaTeX writes them, whatever the document's encoding."""
    return escape_latex(text).replace("±", r"$\pm$").replace("†", r"$\dagger$")


def _escape_markdown(text: str) -> str:
    """Return text in which nothing is markup, a table's bar or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)


def _headers(board: Leaderboard) -> list[str]:
    trials = ["trials (s)"] if board.search else []
    flops = ["GFLOP"] if _any_flops(board) else []
    return ["method", *board.scenarios, "mean", "worst", "params (M)", *flops, "train (s)", *trials, "seeds"]


def _cells(board: Leaderboard) -> list[list[str]]:
    """Return the body of the table as words."""
    return [
        [
            row.label + " *" * row.sees_hidden + " †" * bool(row.note),
            *(score_words(row, name) for name in (*board.scenarios, "mean", "worst")),
            f"{row.parameters / 1e6:.2f}",
            *(["-" if row.flops is None else f"{row.flops / 1e9:.1f}"] if _any_flops(board) else []),
            f"{row.seconds:.0f}",
            *([f"{row.trial_seconds:.0f}"] if board.search else []),
            str(len(row.seeds)),
        ]
        for row in board.rows
    ]


def _any_flops(board: Leaderboard) -> bool:
    """Whether a column of FLOP says anything; records from before they were counted hold none."""
    return any(row.flops is not None for row in board.rows)


def score_words(row: Row, name: str) -> str:
    """Return one score; without a deviation where there are too few seeds."""
    summary: Summary | None = row.figures.get(name)
    if summary is None:
        return "-"
    spread = "" if summary.deviation is None else f" ± {summary.deviation:.1f}"
    return f"{summary.mean:.1f}{spread}"


def _notes(board: Leaderboard) -> list[str]:
    """Return what a reader must know beside the figures."""
    devices = sorted({row.device for row in board.rows})
    notes = [
        "A column is named by the modalities present; mean and worst are over these columns.",
    ]
    if _any_flops(board):
        notes.append("GFLOP: of one window at inference with all modalities, 2 FLOP a multiply-accumulate.")
    if any(row.sees_hidden for row in board.rows):
        notes.append("*: training used the content of hidden modalities as a target.")
    noted: dict[str, list[str]] = {}
    for row in board.rows:
        if row.note:
            noted.setdefault(row.note, []).append(row.label)
    notes += [f"†: {', '.join(labels)}: {note}." for note, labels in noted.items()]
    if any(len(row.seeds) >= FEWEST_SEEDS_FOR_SPREAD for row in board.rows):
        notes.append("±: standard deviation over seeds.")
    if devices:
        notes.append(f"Training time on {'; '.join(devices)}.")
    imputing = [f"{row.label}: {_imputed(row)}" for row in board.rows if row.imputation]
    if imputing:
        notes.append(
            "Generated images against the real ones, mean absolute difference where the data span [-1, 1] "
            f"(of the training mean in their place): {'; '.join(imputing)}."
        )
    if board.search and board.rows:
        notes.append(_search_note(board.search, board.rows))
    if not board.ranked:
        notes.append(f"Recipe {board.recipe} is not the ranked one: not for a leaderboard.")
    if board.mixed_code:
        notes.append("Rows were made by different versions of the code: run again before comparing.")
    notes += [f"No score: {failure}." for failure in board.failures]
    return notes


def _imputed(row: Row) -> str:
    """Return the error of the images that a method generates, by modality."""
    return ", ".join(
        f"{name} {error:.3f} ({of_mean:.3f})" for name, (error, of_mean) in row.imputation.items()
    )


def _search_note(search: tuple[int, int], rows: tuple[Row, ...]) -> str:
    """Return how the learning rates were chosen, which, and where their cost stands."""
    trials, steps = search
    chosen = ", ".join(f"{row.label} {_rates(row.learning_rates)}" for row in rows)
    return (
        f"Learning rate of each method and seed: the best of {trials} trials of {steps} steps on validation "
        f"tiles ({chosen}). train (s) is without the trials, trials (s) is their time."
    )


def _rates(rates: tuple[float, ...]) -> str:
    """Return learning rates, one a seed; once if they are all the same."""
    words = [f"{rate:g}" for rate in rates]
    return words[0] if len(set(words)) == 1 else " / ".join(words)
