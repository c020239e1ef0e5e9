"""`mmbench power`: the smallest difference that a split and some seeds can resolve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli import _scoring as shared
from mmbench.cli.data._json import STANDARD_OUTPUT, JsonTarget, write_json
from mmbench.errors import InvalidRecipeError


def power(
    results: Annotated[Path, typer.Argument(help="Folder of the records.")] = Path("results"),
    metric: shared.MetricName = "miou",
    scenario: shared.ScenarioName = "mean",
    labels: shared.LabelPolicy = None,
    alpha: Annotated[float, typer.Option("--alpha", help="Level of the two-sided test of a pair.")] = 0.05,
    chance: Annotated[float, typer.Option("--power", help="Chance to find the difference.")] = 0.8,
    dataset: shared.OnlyDataset = None,
    recipe: shared.OnlyRecipe = None,
    json: JsonTarget = None,
) -> None:
    """Say which differences the stored records can resolve, and what would take more; runs nothing."""
    shared.check_scoring(metric, labels)
    if not 0 < alpha < chance < 1:
        raise InvalidRecipeError(
            f"--alpha {alpha:g} --power {chance:g}: expected numbers between 0 and 1, the power above the "
            "level"
        )
    from mmbench.reporting.power import board_power
    from mmbench.reporting.power_tables import floor_words, power_json, power_tables
    from mmbench.reporting.selection import check_column, select
    from mmbench.reporting.tables import console_text

    selection = select(results, metric, labels, dataset, recipe)  # type: ignore[arg-type]
    found = []
    for board in selection.comparable_boards():
        matrices = selection.matrices(board.rows)
        check_column(matrices.columns, scenario)
        found.append((board, board_power(matrices, board, scenario, alpha=alpha, power=chance)))
    if json is not None:
        write_json({"boards": [power_json(board, powers) for board, powers in found]}, json)
    if json != STANDARD_OUTPUT:
        for board, powers in found:
            parts = [floor_words(powers), *map(console_text, power_tables(board, powers))]
            typer.echo("\n\n".join(parts) + "\n")
