"""What the page shows without its script: facts of each leaderboard, figures, cards of methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmbench.errors import DataError, MMBenchError
from mmbench.records import Record
from mmbench.reporting.cards import MODALITIES, NUM_CLASSES, Card, method_card
from mmbench.reporting.figures.boards import BoardFigures
from mmbench.reporting.figures.canvas import COLUMN_INCHES
from mmbench.reporting.leaderboard import LABEL_WORDS, Leaderboard
from mmbench.reporting.matrices import load_matrices
from mmbench.reporting.page.images import svg_address
from mmbench.reporting.rows import METRIC_NAMES, number_words

_SEEN = {
    "scores": "A row a method, a panel a scenario: a mark at the score, a line for its interval.",
    "expected": "A line a method: the expected score over the probability that a modality is missing.",
    "ranks": "A row a method: how often resampling gives it each rank by mean score.",
    "tradeoff": "A mark a method: its mean score over what it costs.",
    "classes": "A map with numbers, a panel a scenario: a row a method, a column a class.",
}
"""Name of a figure -> what is to be seen, for readers who do not see it."""
_TITLES = {
    "scores": "Scores with their intervals",
    "expected": "Expected score where modalities are missing",
    "ranks": "How sure the order is",
    "tradeoff": "Accuracy against cost",
    "classes": "Scores of every class",
}


@dataclass(frozen=True)
class Picture:
    """A figure in the page.

    Attributes:
        title: What it is about.
        address: A data URI.
        words: What is to be seen.
        wide: Whether it was drawn for the whole width of a page.
    """

    title: str
    address: str
    words: str
    wide: bool


@dataclass(frozen=True)
class MethodFacts:
    """What a page says of a method.

    Attributes:
        name: Its key.
        title: Its name in full.
        summary: One line.
        facts: Word -> text.
        deviations: What differs from its source.
        options: `name = default` each.
    """

    name: str
    title: str
    summary: str
    facts: dict[str, str]
    deviations: Sequence[str]
    options: Sequence[str]


def board_facts(board: Leaderboard) -> dict[str, str]:
    """Return what was measured on what and how, word beside words."""
    records = len(board.records)
    done = f"{records} record{'s' * (records != 1)} of {len(board.all_rows)} method"
    failed = f", {len(board.failures)} without a score" if board.failures else ""
    return {
        "data set": f"{board.dataset}{' with five classes' if board.five_classes else ''}",
        "modalities": " + ".join(board.modalities),
        "split": board.split,
        "labels": LABEL_WORDS.get(board.labels, board.labels),
        "recipe": board.recipe,
        "patterns": "the protocol's, alike for all" if board.patterns == "protocol" else "each method's own",
        "seeds": number_words(board.seeds) or "none",
        "protocol": f"version {board.protocol}",
        "records": f"{done}{'s' * (len(board.all_rows) != 1)}{failed}",
    }


def board_pictures(results: Path, board: Leaderboard, records: Sequence[Record]) -> tuple[list[Picture], str]:
    """Draw the figures of a leaderboard.

    Args:
        results: Folder of the matrices.
        board: As it was asked for.
        records: Those behind it, among others.

    Returns:
        The figures, and why there are none or "".
    """
    if not board.rows:
        return [], "No method is complete."
    by_id = {record.id: record for record in records}
    held = [by_id[result.record] for row in board.rows for result in row.results]
    try:
        matrices = load_matrices(results, held, board.labels)
    except DataError as error:
        return [], f"No figures: {error}."
    drawn = BoardFigures(board, matrices).draw()
    numbers = f"The numbers of {METRIC_NAMES[board.metric]} stand in the tables above."
    return [
        Picture(
            title=_TITLES[name],
            address=svg_address(figure),
            words=f"{_SEEN[name]} {numbers}",
            wide=figure.get_figwidth() > COLUMN_INCHES,
        )
        for name, figure in drawn.items()
    ], ""


def method_facts(records: Sequence[Record]) -> Iterator[MethodFacts]:
    """Yield the card of each method once; of one that is not installed, what its records say."""
    seen = {record.identity["method"]["name"]: record for record in reversed(records)}
    for name in sorted(seen):
        try:
            yield _of_card(method_card(name))
        except MMBenchError:
            yield _of_record(name, seen[name])


def _of_card(card: Card) -> MethodFacts:
    """Return a card's facts."""
    images = " + ".join(f"{name} ({count})" for name, count in MODALITIES.items())
    counted = f"{images}, {NUM_CLASSES} classes"
    if card.built is None:
        size = f"unknown, it does not take {counted} ({card.refusal})"
    else:
        parts = "; ".join(f"{part} {count:,}" for part, count in card.built.parts.items())
        size = f"{card.built.parameters:,} for {counted} ({parts})"
    return MethodFacts(
        name=card.name,
        title=card.title,
        summary=card.summary,
        facts=card.facts | {"parameters": size, "from": card.origin},
        deviations=card.deviations or ("nothing",),
        options=card.option_words,
    )


def _of_record(name: str, record: Record) -> MethodFacts:
    """Return what a record says of its method."""
    told = {
        "from": record.method.get("origin", ""),
        "parameters": f"{record.method.get('parameters', 0):,}",
        "note": record.method.get("note", ""),
    }
    return MethodFacts(
        name=name,
        title=str(record.method.get("title", name)),
        summary="This method is not installed here; what follows is what its records say.",
        facts={word: str(text) for word, text in told.items() if text},
        deviations=(),
        options=[f"{key} = {value!r}" for key, value in record.identity["method"].get("options", {}).items()],
    )
