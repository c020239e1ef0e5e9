"""`mmbench plan`: which cells are done, stale (and why) or missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli._opening import open_run


@options.takes_dataset
def plan(
    methods: options.MethodNames,
    dataset: options.DatasetName,
    choice: options.DatasetChoice,
    recipe: options.RecipeName = "default",
    overrides: options.Overrides = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Whole numbers separated by commas.")] = "0",
    device: options.DeviceName = "auto",
    results: options.Results = Path("results"),
) -> None:
    """Say which cells of a run are done, and why the others are not. Runs nothing."""
    wanted_methods, wanted_seeds = options.parse_methods(methods), options.parse_seeds(seeds)
    opened = open_run(
        choice, recipe, overrides, wanted_methods, device=device, results=results, no_cache=True
    )  # no pixel is read
    from mmbench.cells import Cell, state
    from mmbench.records import read_records

    stored = read_records(results)
    for method in wanted_methods:
        for seed in wanted_seeds:
            cell = Cell(method, seed)
            found = state(opened, cell, stored)
            reason = f"  {found.reason}" if found.reason else ""
            typer.echo(f"{found.kind:7}  {cell}{reason}")
