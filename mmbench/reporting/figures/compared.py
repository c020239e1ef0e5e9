"""The figure of a comparison: the tiles that separate two methods most, and who is right on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mmbench.reporting.comparison import Comparison, TileDifference
from mmbench.reporting.data_places import DataPlace
from mmbench.reporting.disagreement import RecordPair, read_pairs
from mmbench.reporting.estimate_words import in_points
from mmbench.reporting.figures.disputes import DisputedTile, draw_disputes
from mmbench.reporting.figures.panel_sources import recorded_legend, views_at_hand
from mmbench.reporting.figures.tile_views import TileView
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.rows import METRIC_NAMES

_MOST_ROWS, _MOST_TILES, _MOST_SCENARIOS = 6, 3, 7
"""Of one figure, that it fits a page. Seven scenarios are all of three modalities; of four the first ones."""


def draw_compared(
    results: Path, board: Leaderboard, found: Comparison, pairs: Sequence[RecordPair], place: DataPlace
) -> Figure:
    """Draw where two methods differ, of the first seed that both have.

    Args:
        results: Folder of the records.
        board: In which both stand.
        found: The comparison; its column says which scenarios are drawn, and what separates the two.
        pairs: The records behind it.
        place: Where the data behind the records lie; not at hand, predictions alone are drawn.

    Raises:
        DataError: If a record holds no predictions, or they do not belong together.
        MMBenchError: If the dataset is not installed, for its colours, or not the recorded one in the place
            that was said.
    """
    first = pairs[0][0]
    predictions = next(read_pairs(results, pairs[:1]))
    scenarios = [found.column] if found.column in board.scenarios else board.scenarios[:_MOST_SCENARIOS]
    rows = 1 if len(scenarios) == 1 else max(len(scenarios), len(board.modalities) + 1)
    count = max(1, min(_MOST_TILES, _MOST_ROWS // rows))
    chosen = sorted(found.tiles, key=lambda tile: -abs(tile.contribution or 0.0))[:count]
    views = views_at_hand(results, first, predictions[0], [tile.name for tile in chosen], place)
    tiles = [DisputedTile(view, _tile_words(tile)) for view, tile in zip(views, chosen, strict=True)]
    has_truth = all(tile.view.target is not None for tile in tiles)
    if not has_truth:  # what is known of some tiles only would not stand in one legend
        tiles = [DisputedTile(TileView(tile.view.tile_id), tile.words) for tile in tiles]
    return draw_disputes(
        tiles,
        predictions,
        scenarios,
        recorded_legend(first),
        title="Where two methods differ",
        below=_below(board, found, first.identity["seed"], has_truth),
    )


def _tile_words(tile: TileDifference) -> str:
    """Say what a tile gives to the difference."""
    return f"tile {tile.name}: gives {in_points(tile.contribution, 2, sign=True)} points to A - B"


def _below(board: Leaderboard, found: Comparison, seed: int, has_truth: bool) -> str:
    """Say who A and B are and where the pictures come from."""
    truth = (
        "truth: eroded labels, black where they ignore"
        if has_truth
        else "predictions only, the dataset is not at hand"
    )
    return (
        f"A: {found.first}; B: {found.second}; {board.conditions}; the tiles that give most to A - B in "
        f"{METRIC_NAMES[found.metric]} ({found.column}); shown: the window that is stored of each, "
        f"seed {seed}; {truth}"
    )
