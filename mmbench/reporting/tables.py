"""A leaderboard as text: for the console, in Markdown and in LaTeX."""

from __future__ import annotations

import re

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


def console_table(board: Leaderboard) -> str:
    """Return the leaderboard for a terminal."""
    table = tabulate(_cells(board), headers=_headers(board), tablefmt="simple", disable_numparse=True)
    return "\n".join([board.title, "", table, "", *_notes(board)])


def markdown_table(board: Leaderboard) -> str:
    """Return the leaderboard in GitHub's Markdown, its notes below."""
    clean = [[_escape_markdown(c) for c in row] for row in _cells(board)]
    table = tabulate(clean, headers=_headers(board), tablefmt="github", disable_numparse=True)
    notes = [_escape_markdown(note) for note in _notes(board)]
    return "\n".join(
        [f"**{_escape_markdown(board.title)}**", "", table, "", *(f"{note}  " for note in notes)]
    )


def latex_table(board: Leaderboard) -> str:
    """Return the leaderboard as a LaTeX table; needs the package booktabs."""
    headers = [escape_latex(h) for h in _headers(board)]
    rows = [[_latex(cell) for cell in row] for row in _cells(board)]
    columns = "l" + "r" * (len(headers) - 1)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(' '.join([board.title + '.', *_notes(board)]))}}}",
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
    return ["method", *board.scenarios, "mean", "worst", "params (M)", "train (s)", *trials, "seeds"]


def _cells(board: Leaderboard) -> list[list[str]]:
    """Return the body of the table as words."""
    return [
        [
            row.label + " *" * row.sees_hidden + " †" * bool(row.note),
            *(_figure(row, name) for name in (*board.scenarios, "mean", "worst")),
            f"{row.parameters / 1e6:.2f}",
            f"{row.seconds:.0f}",
            *([f"{row.trial_seconds:.0f}"] if board.search else []),
            str(len(row.seeds)),
        ]
        for row in board.rows
    ]


def _figure(row: Row, name: str) -> str:
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
