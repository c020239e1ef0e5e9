"""Options of the verbs that read scores from stored records."""

from __future__ import annotations

from typing import Annotated

import typer

from mmbench.cli import _options as options

METRICS = ("miou", "mf1", "oa", "kappa")
POLICIES = ("eroded", "full", "five-class")

MetricName = Annotated[str, typer.Option("--metric", help="miou, mf1, oa or kappa.")]
ScenarioName = Annotated[
    str, typer.Option("--scenario", help="A scenario of the table, or mean or worst over them.")
]
LabelPolicy = Annotated[
    str | None,
    typer.Option(
        "--labels",
        "--policy",
        help="eroded, full or five-class, from the stored matrices; as scored if not given.",
    ),
]
OnlyDataset = Annotated[str | None, typer.Option("--dataset", "-d", help="Only this dataset.")]
OnlyRecipe = Annotated[str | None, typer.Option("--recipe", "-r", help="Only this recipe.")]


def check_scoring(metric: str, labels: str | None) -> None:
    """Refuse a metric or a label policy that does not exist.

    Raises:
        InvalidRecipeError: Naming those there are.
    """
    options.check_choice("--metric", metric, METRICS)
    if labels is not None:
        options.check_choice("--labels", labels, POLICIES)
