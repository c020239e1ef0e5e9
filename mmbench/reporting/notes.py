"""What a reader must know beside the figures of a leaderboard, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.rows import Row
from mmbench.statistics import FEWEST_SEEDS_FOR_SPREAD

HIDDEN, NOTED, INCOMPLETE = "*", "†", "‡"
"""Signs of a row: it trained on hidden content, there is a note on it, it is not compared."""


def leaderboard_notes(board: Leaderboard) -> list[str]:
    """Return the notes of the table by scenario, which says everything."""
    rows = board.all_rows
    devices = sorted({row.device for row in rows})
    notes = ["A column is named by the modalities present; mean and worst are over these columns."]
    if any_flops(board):
        notes.append("GFLOP: of one window at inference with all modalities, 2 FLOP a multiply-accumulate.")
    notes += mark_notes(rows)
    notes += spread_notes(rows)
    if devices:
        notes.append(f"Training time on {'; '.join(devices)}.")
    imputing = [f"{row.label}: {_imputed(row)}" for row in rows if row.imputation]
    if imputing:
        notes.append(
            "Generated images against the real ones, mean absolute difference where the data span [-1, 1] "
            f"(of the training mean in their place): {'; '.join(imputing)}."
        )
    if board.search and rows:
        notes.append(_search_note(board.search, rows))
    return [*notes, *caveats(board), *(f"No score: {failure}." for failure in board.failures)]


def mark_notes(rows: Sequence[Row]) -> list[str]:
    """Explain the signs behind the names of some rows."""
    notes = []
    if any(row.sees_hidden for row in rows):
        notes.append(f"{HIDDEN}: training used the content of hidden modalities as a target.")
    noted: dict[str, dict[str, None]] = {}  # labels once each, in their order: several boards may share one
    for row in rows:
        if row.note:
            noted.setdefault(row.note, {})[row.label] = None
    return [*notes, *(f"{NOTED}: {', '.join(labels)}: {note}." for note, labels in noted.items())]


def spread_notes(rows: Sequence[Row]) -> list[str]:
    """Explain ±, where it stands."""
    enough = any(len(row.seeds) >= FEWEST_SEEDS_FOR_SPREAD for row in rows)
    return ["±: standard deviation over seeds."] if enough else []


def caveats(board: Leaderboard) -> list[str]:
    """Return what forbids conclusions: rows that lack something, recipes that are not ranked, mixed code."""
    notes = []
    if board.incomplete:
        words = "; ".join(f"{row.label}: {', '.join(row.lacks)}" for row in board.incomplete)
        notes.append(f"Not compared, because incomplete: {words}.")
    if board.unranked:
        notes.append(f"{board.unranked[0].upper()}{board.unranked[1:]}: not for a leaderboard.")
    if board.untested:
        notes.append(f"Which rows are tied was not tested: {board.untested}.")
    if board.mixed_code:
        notes.append("Rows were made by different versions of the code: run again before comparing.")
    return notes


def any_flops(board: Leaderboard) -> bool:
    """Whether a column of FLOP says anything; records from before they were counted hold none."""
    return any(row.flops is not None for row in board.all_rows)


def _imputed(row: Row) -> str:
    """Return the error of the images that a method generates, by modality."""
    return ", ".join(
        f"{name} {error:.3f} ({of_mean:.3f})" for name, (error, of_mean) in row.imputation.items()
    )


def _search_note(search: tuple[int, int], rows: Sequence[Row]) -> str:
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
