"""What each method predicts on a few tiles, as pictures that a page holds, to be moved over and wiped.

Axes: H W pixels, K class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbench.errors import MMBenchError
from mmbench.predictions import Predictions
from mmbench.records import Record
from mmbench.reporting.data_places import DataPlace
from mmbench.reporting.figures.panel_sources import recorded_legend, stored_predictions, views_at_hand
from mmbench.reporting.figures.pictures import (
    IGNORED,
    RIGHT,
    WRONG,
    Colour,
    modality_picture,
    most_disputed,
    right_share,
)
from mmbench.reporting.figures.tile_views import Legend, TileView
from mmbench.reporting.leaderboard import Leaderboard
from mmbench.reporting.page.images import jpeg_address, png_address

_MOST_METHODS, _MOST_SCENARIOS, _MOST_TILES = 12, 7, 5
_MOST_LETTERS = 6_000_000
"""Of all pictures of a leaderboard: a page must open at once. One tile is shown whatever it takes."""
_IGNORED_COLOUR = (0, 0, 0)
"""Of truth that counts nowhere, as ISPRS draws it."""


def tile_data(
    results: Path, board: Leaderboard, records: Sequence[Record], place: DataPlace
) -> dict[str, Any]:
    """Return the pictures of the tiles on which methods differ most, each method with its first seed.

    Args:
        results: Folder of the records.
        board: Its complete rows are shown.
        records: Those behind the board, among others.
        place: Where the data behind the records lie.

    Returns:
        For the page's script; where there is nothing to show, only `absent`, a sentence that says why.

    Raises:
        MMBenchError: If it was said where the data lie, and they are not the recorded ones.
    """
    by_id = {record.id: record for record in records}
    firsts = {row.label: by_id[row.results[0].record] for row in board.rows}
    methods = stored_predictions(results, firsts, _MOST_METHODS)
    if not methods:
        return {"absent": "No record holds predictions; those of this version do: run the cells again."}
    first = firsts[next(iter(methods))]
    try:
        legend = recorded_legend(first)
    except MMBenchError as error:
        return {"absent": f"The colours of the classes are not known: {error}."}
    scenarios = board.scenarios[:_MOST_SCENARIOS]
    shown = list(methods.values())
    tiles: list[dict[str, Any]] = []
    letters = 0
    disputed = most_disputed(shown, scenarios, _MOST_TILES)
    for view in views_at_hand(results, first, shown[0], disputed, place):
        tile = _tile(view, shown, scenarios, legend)
        letters += _letters(tile)
        if tiles and letters > _MOST_LETTERS:
            break
        tiles.append(tile)
    return {
        "note": _note([firsts[label] for label in methods], tiles, len(board.rows)),
        "methods": list(methods),
        "scenarios": list(scenarios),
        "legend": _entries([*legend.classes, "not counted"], [*legend.palette, _IGNORED_COLOUR]),
        "errorLegend": _entries(("right", "wrong", "not counted"), (RIGHT, WRONG, IGNORED)),
        "tiles": tiles,
    }


def _note(records: Sequence[Record], tiles: Sequence[Mapping[str, Any]], rows: int) -> str:
    """Say which tiles and cells are shown."""
    seeds = ", ".join(str(seed) for seed in sorted({record.identity["seed"] for record in records}))
    shown = len(records)
    some = f" Shown are {shown} of {rows} methods: the others hold none." if shown < rows else ""
    without = "" if tiles[0]["truth"] else " Images and truth are not shown: the dataset is not at hand."
    count = "The tile" if len(tiles) == 1 else f"The {len(tiles)} tiles"
    return f"{count} on which the methods differ most, seed {seeds}.{some}{without}"


def _entries(names: Sequence[str], colours: Sequence[Colour]) -> list[dict[str, str]]:
    """Return names with their colours as CSS has them."""
    return [
        {"name": name.replace("_", " "), "colour": f"rgb({', '.join(map(str, colour))})"}
        for name, colour in zip(names, colours, strict=True)
    ]


def _tile(
    view: TileView, methods: Sequence[Predictions], scenarios: Sequence[str], legend: Legend
) -> dict[str, Any]:
    """Return the pictures of one tile."""
    colours = [*legend.palette, _IGNORED_COLOUR]
    truth = None
    if view.target is not None:
        known = np.where(view.target == legend.ignore_index, len(legend.palette), view.target)
        truth = png_address(known.astype(np.uint8), colours)
    return {
        "id": view.tile_id,
        "inputs": [
            {"name": name, "src": jpeg_address(modality_picture(image))}
            for name, image in view.images.items()
        ],
        "truth": truth,
        "cases": [
            {s: _case(method.classes[view.tile_id, s], view.target, legend) for s in scenarios}
            for method in methods
        ],
    }


def _case(
    classes: NDArray[np.uint8], target: NDArray[np.uint8] | None, legend: Legend
) -> dict[str, str | None]:
    """Return one prediction, its errors, and the share of pixels that are right."""
    case: dict[str, str | None] = {"prediction": png_address(classes, legend.palette)}
    if target is None:
        return case | {"errors": None, "right": None}
    errors = np.where(target != legend.ignore_index, classes == target, 2).astype(np.uint8)
    share = right_share(classes, target, legend.ignore_index)
    words = None if share is None else f"{100 * share:.1f} % right"
    return case | {"errors": png_address(errors, (WRONG, RIGHT, IGNORED)), "right": words}


def _letters(tile: Any) -> int:
    """Return how long all words of some nested data are together."""
    if isinstance(tile, dict):
        return sum(map(_letters, tile.values()))
    return sum(map(_letters, tile)) if isinstance(tile, list) else len(tile or "")
