"""`mmbench run`: train and evaluate every method, keep a record of each cell, print the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli._opening import open_run

if TYPE_CHECKING:
    from mmbench.cells import Cell, Run
    from mmbench.records import Record
    from mmbench.reporting.progress import Display

_FAILED_CELLS, _BROKEN_PROTOCOL = 5, 6


@options.takes_dataset
def run(
    methods: options.MethodNames,
    dataset: options.DatasetName,
    choice: options.DatasetChoice,
    recipe: options.RecipeName = "default",
    overrides: options.Overrides = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Whole numbers separated by commas.")] = "0",
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    device: options.DeviceName = "auto",
    workers: options.Workers = 0,
    results: options.Results = Path("results"),
    compile_graphs: options.Compile = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Run finished cells again.")] = False,
    progress: options.ProgressStyle = "auto",
) -> None:
    """Train each method, hide each modality at test time, keep records, print the table."""
    options.check_choice("--progress", progress, options.PROGRESS_STYLES)
    wanted_methods, wanted_seeds = options.parse_methods(methods), options.parse_seeds(seeds)
    opened = open_run(
        choice,
        recipe,
        overrides,
        wanted_methods,
        device=device,
        results=results,
        workers=workers,
        cache=cache,
        no_cache=no_cache,
        compiled=compile_graphs,
    )
    from mmbench.cells import Cell

    cells = [Cell(method, seed) for method in wanted_methods for seed in wanted_seeds]
    _say_header(opened, cells)
    records = _run_all(opened, cells, rerun, progress)
    _print_tables(records)
    broken = [r for r in records if (r.error or {}).get("kind") == "protocol"]
    failed = [r for r in records if r.status == "failed"]
    if failed:
        typer.echo(
            f"error: {len(failed)} of {len(records)} cells failed; their records and logs in {results} say "
            "why, the others are kept",
            err=True,
        )
        raise typer.Exit(_BROKEN_PROTOCOL if broken else _FAILED_CELLS)


def _say_header(opened: Run, cells: list[Cell]) -> None:
    """Say what runs where, and on what."""
    from mmbench.datasets._prepared.dataset import pixel_source
    from mmbench.devices import describe_device, resolve_precision

    split = opened.dataset.split
    tiles = f"{len(split.train)} train, {len(split.val)} val, {len(split.test)} test tiles"
    words = (
        f"recipe {opened.recipe.name}",
        f"{opened.dataset_name} split {opened.dataset.split_name} ({tiles})",
        f"modalities {' + '.join(opened.dataset.modalities)}",
        f"pixels from {pixel_source(opened.dataset)}",
        f"device {describe_device(opened.device)}",
        resolve_precision(opened.device, opened.recipe.training.precision),
        f"records in {opened.results}",
    )
    typer.echo(f"{len(cells)} cell{'s' * (len(cells) > 1)}: {', '.join(words)}", err=True)


def _run_all(opened: Run, cells: list[Cell], rerun: bool, style: str) -> list[Record]:
    """Run what is not done and return every cell's record."""
    from mmbench.cells import identity, state
    from mmbench.records import fingerprint, read_record, read_records, record_path
    from mmbench.reporting.progress import display

    opened.results.mkdir(parents=True, exist_ok=True)  # a path that cannot be written shows now
    stored = read_records(opened.results)
    todo = [cell for cell in cells if rerun or state(opened, cell, stored).kind != "done"]
    if todo:
        opened.check_tiles()
    records = []
    with display(style) as shown:  # type: ignore[arg-type]
        for number, cell in enumerate(cells, 1):
            shown.cell(number, len(cells), str(cell))
            if cell not in todo:
                path = record_path(opened.results, fingerprint(identity(opened, cell)))
                records.append(read_record(path))
                shown.result(f"already done, record {path.stem}")
            else:
                records.append(_run_one(opened, cell, shown))
    return records


def _run_one(opened: Run, cell: Cell, shown: Display) -> Record:
    """Run a cell and say how it ended."""
    from mmbench.execution import run_cell

    record = run_cell(opened, cell, shown.step)
    if record.status == "failed":
        shown.result(f"FAILED: {(record.error or {}).get('message', '')}")
        return record
    words = ", ".join(
        f"{name} {values['miou'] * 100:.1f}" if values["miou"] is not None else f"{name} -"
        for name, values in record.scenarios.items()
    )
    shown.result(f"mIoU {words} ({record.provenance['seconds']:.0f} s, record {record.id})")
    return record


def _print_tables(records: list[Record]) -> None:
    """Print the leaderboard of these cells."""
    from mmbench.reporting.leaderboard import leaderboards
    from mmbench.reporting.tables import console_table

    for board in leaderboards(records):
        typer.echo(f"\n{console_table(board)}")
