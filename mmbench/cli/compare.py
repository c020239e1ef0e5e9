"""`mmbench compare A B`: by how much two methods differ, how sure that is, on which classes and tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli import _statistics as shared
from mmbench.cli.data._json import STANDARD_OUTPUT, JsonTarget, write_json

_ROW = "A row of the report: a method's name, with the options behind it where it has several rows."


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=_ROW)],
    second: Annotated[str, typer.Argument(metavar="B", help=_ROW)],
    results: options.Results = Path("results"),
    metric: shared.MetricName = "miou",
    scenario: shared.ScenarioName = "mean",
    labels: shared.LabelPolicy = None,
    dataset: shared.OnlyDataset = None,
    recipe: shared.OnlyRecipe = None,
    json: JsonTarget = None,
) -> None:
    """Hold two methods against each other, from stored records; runs nothing."""
    shared.check_scoring(metric, labels)
    from mmbench.reporting.comparison import compare as hold_against
    from mmbench.reporting.comparison_tables import comparison_json, comparison_tables, verdict
    from mmbench.reporting.selection import check_column, find_pair, select
    from mmbench.reporting.tables import console_text

    selection = select(results, metric, labels, dataset, recipe)  # type: ignore[arg-type]
    board, one, other = find_pair(selection, first, second)
    matrices = selection.matrices([one, other])
    check_column(matrices.columns, scenario)
    found = hold_against(matrices, one.label, other.label, board.metric, scenario)
    if json is not None:
        write_json(comparison_json(board, found), json)
    if json != STANDARD_OUTPUT:
        parts = [verdict(found), *map(console_text, comparison_tables(board, found))]
        typer.echo("\n\n".join(parts))
