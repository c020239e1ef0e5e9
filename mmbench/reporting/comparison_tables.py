"""A comparison of two methods in a sentence, as tables and as JSON."""

from __future__ import annotations

from typing import Any

from mmbench.reporting.comparison import CLASS_METRICS, Comparison
from mmbench.reporting.disagreement import Disagreement
from mmbench.reporting.estimate_words import (
    ALPHA,
    estimate_json,
    in_points,
    interval_words,
    p_words,
    points,
)
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.rows import CLASS_METRIC_NAMES, MEAN, METRIC_NAMES, WORST, number_words
from mmbench.reporting.table_model import Table
from mmbench.statistics import LEVEL

SCHEMA_VERSION = 1
_COLUMN_WORDS = {MEAN: "mean over scenarios", WORST: "worst scenario"}
_APART, _DIFFER = "pixels apart (%)", "pixels differ (%)"

Windows = Disagreement | str
"""What the stored predictions of both say, or why they were not held against each other."""


def verdict(found: Comparison) -> str:
    """Say in one sentence which method is ahead, by how much, and whether that is sure."""
    estimate = found.chosen.difference
    start = f"{METRIC_NAMES[found.metric]}, {_column_words(found)}"
    if estimate is None:
        return f"{start}: there is nothing to score."
    if estimate.value == 0:
        return f"{start}: {found.first} and {found.second} are equal."
    ahead, behind = (found.first, found.second) if estimate.value > 0 else (found.second, found.first)
    start += f": {ahead} is ahead of {behind} by {in_points(abs(estimate.value), 2)} points"
    interval = estimate.interval()
    if interval is None or estimate.p_value is None:
        return f"{start}; one seed and one tile cannot say how sure that is."
    low, high = sorted(end if estimate.value > 0 else -end for end in interval)
    sure = "separated" if estimate.p_value < ALPHA else "not separated"
    return (
        f"{start} ({LEVEL * 100:g} % interval {in_points(low, 2)} to {in_points(high, 2)}, "
        f"p {p_words(estimate.p_value)}): {sure} at level {ALPHA:g}."
    )


def comparison_tables(board: Leaderboard, found: Comparison, windows: Windows) -> list[Table]:
    """Return the differences by scenario, how far seeds and tiles agree, then classes and tiles.

    Args:
        board: In which both stand.
        found: The comparison.
        windows: Of the same records.
    """
    return [
        _difference_table(board, found),
        _agreement_table(found, windows),
        _class_table(found),
        _tile_table(found, windows),
    ]


def _difference_table(board: Leaderboard, found: Comparison) -> Table:
    """Return scores and differences by scenario."""
    estimate = next((c.difference for c in found.columns if c.difference is not None), None)
    notes = [
        "A - B: mean over seeds of the difference in points; the interval and p resample "
        f"{estimate.basis if estimate else 'nothing'}, alike for both.",
        f"swap p: of swapping the matrices of tiles, {'all ways' if found.exact else 'at random'}; it is "
        f"about these trainings on other tiles, and cannot fall below {_least(found.smallest_p_value)} here.",
        "Both p are of one comparison that was planned; of the best of many, see the groups of the report.",
    ]
    if found.left_out:
        notes.append(f"Left out, because the other has no such seed: {', '.join(found.left_out)}.")
    if board.unranked:
        notes.append(f"{board.unranked[0].upper()}{board.unranked[1:]}: not for a leaderboard.")
    if board.mixed_code:
        notes.append("Records were made by different versions of the code: run again before comparing.")
    return Table(
        title=f"A: {found.first}. B: {found.second}. {METRIC_NAMES[found.metric]} (%) {board.conditions}, "
        f"compared on {'seeds' if len(found.seeds) > 1 else 'seed'} {number_words(found.seeds)}",
        headers=("scenario", "A", "B", "A - B", f"{LEVEL * 100:g} % interval", "p", "swap p"),
        rows=tuple(
            (
                c.column,
                in_points(c.first),
                in_points(c.second),
                in_points(c.difference.value if c.difference else None, 2, sign=True),
                interval_words(c.difference),
                p_words(c.difference.p_value if c.difference else None),
                p_words(c.swap_p_value),
            )
            for c in found.columns
        ),
        notes=tuple(notes),
    )


def _agreement_table(found: Comparison, windows: Windows) -> Table:
    """Return for how many seeds and tiles each is ahead, and how much the predictions differ."""
    return Table(
        title="Agreement of seeds and tiles",
        headers=("scenario", "seeds A", "seeds B", "tiles A", "tiles B", _APART, _DIFFER),
        rows=tuple(
            (
                c.column,
                *(str(number) for number in (*c.seeds, *c.tiles)),
                _at_least(c.apart),
                in_points(_differ(windows, c.column)),
            )
            for c in found.columns
        ),
        notes=(
            "seeds A: for how many seeds A is ahead; tiles A: how many tiles speak for A.",
            f"{_APART}: on which both predict different classes, of those that are scored; matrices tell the "
            "least share only.",
            f"{_DIFFER}: {_differ_words(windows)}.",
        ),
    )


def _differ_words(windows: Windows) -> str:
    """Say what was counted pixel by pixel, or why nothing was."""
    if isinstance(windows, str):
        return f"not known, {windows}"
    return "on which both do, counted one by one, in the window that is stored of each tile; scored or not"


def _why_not(windows: Windows) -> str:
    """Return why predictions were not held against each other, "" if they were."""
    return windows if isinstance(windows, str) else ""


def _differ(windows: Windows, column: str, tile: str | None = None) -> float | None:
    """Return the share of pixels of stored windows on which both differ, None where it is not known."""
    return None if isinstance(windows, str) else windows.share(column, tile)


def _class_table(found: Comparison) -> Table:
    """Return the differences by class, the largest first."""
    name = CLASS_METRIC_NAMES[CLASS_METRICS[found.metric]]
    ordered = sorted(found.classes, key=lambda c: -c.difference.value if c.difference else 0.0)
    return Table(
        title=f"{name} (%) by class, {_column_words(found)}",
        headers=("class", "A", "B", "A - B", f"{LEVEL * 100:g} % interval", "p"),
        rows=tuple(
            (
                c.name if c.scored else f"({c.name})",
                in_points(c.first),
                in_points(c.second),
                in_points(c.difference.value if c.difference else None, 2, sign=True),
                interval_words(c.difference),
                p_words(c.difference.p_value if c.difference else None),
            )
            for c in ordered
        ),
        notes=("(class): not in the mean.",) if not all(c.scored for c in found.classes) else (),
    )


def _tile_table(found: Comparison, windows: Windows) -> Table:
    """Return the differences by tile, what speaks most for A first."""
    return Table(
        title=f"{METRIC_NAMES[found.metric]} (%) by tile, {_column_words(found)}",
        headers=("tile", "pixels", "A", "B", "A - B", "contribution", _APART, _DIFFER),
        rows=tuple(
            (
                t.name,
                str(t.pixels),
                in_points(t.first),
                in_points(t.second),
                in_points(None if t.first is None or t.second is None else t.first - t.second, 2, sign=True),
                in_points(t.contribution, 2, sign=True),
                _at_least(t.apart),
                in_points(_differ(windows, found.column, t.name)),
            )
            for t in found.tiles
        ),
        notes=(
            "A, B: of the tile alone. contribution: to the difference of the whole split, half of what "
            "swapping the tile changes; they add up to it, nearly.",
        ),
    )


def comparison_json(board: Leaderboard, found: Comparison, windows: Windows) -> dict[str, Any]:
    """Return a comparison as numbers; scores and differences in points.

    Args:
        board: In which both stand.
        found: The comparison.
        windows: Of the same records.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "conditions": board.conditions,
        "unranked": board.unranked,
        "mixed_code": board.mixed_code,
        "metric": found.metric,
        "first": found.first,
        "second": found.second,
        "records": {
            row.label: [result.record for result in row.results if result.seed in found.seeds]
            for row in board.all_rows
            if row.label in (found.first, found.second)
        },
        "seeds": list(found.seeds),
        "left_out": list(found.left_out),
        "verdict": verdict(found),
        "predictions": {"compared": not isinstance(windows, str), "why_not": _why_not(windows)},
        "swap_test": {"exact": found.exact, "smallest_p_value": found.smallest_p_value},
        "scenarios": [
            {
                "scenario": c.column,
                "first": points(c.first),
                "second": points(c.second),
                "difference": estimate_json(c.difference),
                "swap_p_value": c.swap_p_value,
                "tiles_ahead": list(c.tiles),
                "seeds_ahead": list(c.seeds),
                "pixels_apart_at_least": points(c.apart),
                "pixels_differ": points(_differ(windows, c.column)),
            }
            for c in found.columns
        ],
        "column": found.column,
        "class_metric": CLASS_METRICS[found.metric],
        "classes": [
            {
                "class": c.name,
                "scored": c.scored,
                "first": points(c.first),
                "second": points(c.second),
                "difference": estimate_json(c.difference),
            }
            for c in found.classes
        ],
        "tiles": [
            {
                "tile": t.name,
                "pixels": t.pixels,
                "first": points(t.first),
                "second": points(t.second),
                "contribution": points(t.contribution),
                "pixels_apart_at_least": points(t.apart),
                "pixels_differ": points(_differ(windows, found.column, t.name)),
            }
            for t in found.tiles
        ],
    }


def _column_words(found: Comparison) -> str:
    """Return what the column of the classes and tiles is."""
    return _COLUMN_WORDS.get(found.column, f"scenario {found.column}")


def _at_least(share: float | None) -> str:
    """Return a lower bound of a share, in %."""
    return in_points(share) if share is None else f"≥ {in_points(share)}"


def _least(p_value: float) -> str:
    """Return the smallest p-value of a test, to two digits."""
    return f"{p_value:.2g}"
